#if canImport(UIKit)
import Foundation
import UIKit

/// What happens around an app on a phone.
public struct PhoneSurroundings: Surroundings {
    public init() {}

    public func memoryPressure() -> AsyncStream<MemoryPressure> {
        AsyncStream { continuation in
            let source = DispatchSource.makeMemoryPressureSource(eventMask: [.normal, .warning, .critical])
            source.setEventHandler {
                let data = source.data
                let pressure: MemoryPressure =
                    data.contains(.critical) ? .critical : data.contains(.warning) ? .warning : .normal
                continuation.yield(pressure)
            }
            continuation.onTermination = { _ in source.cancel() }
            source.activate()
        }
    }

    public func thermalLevels() -> AsyncStream<ThermalLevel> {
        AsyncStream { continuation in
            let tell = { continuation.yield(ThermalLevel(ProcessInfo.processInfo.thermalState)) }
            let reading = Task {
                tell()
                let changes = NotificationCenter.default.notifications(
                    named: ProcessInfo.thermalStateDidChangeNotification)
                for await _ in changes { tell() }
            }
            continuation.onTermination = { _ in reading.cancel() }
        }
    }

    public func appPhases() -> AsyncStream<AppPhase> {
        AsyncStream { continuation in
            let center = NotificationCenter.default
            let leaving = Task {
                let left = center.notifications(named: UIApplication.willResignActiveNotification)
                for await _ in left { continuation.yield(.background) }
            }
            let returning = Task {
                let returned = center.notifications(named: UIApplication.didBecomeActiveNotification)
                for await _ in returned { continuation.yield(.foreground) }
            }
            continuation.onTermination = { _ in
                leaving.cancel()
                returning.cancel()
            }
        }
    }
}

extension ThermalLevel {
    init(_ state: ProcessInfo.ThermalState) {
        switch state {
        case .nominal: self = .nominal
        case .fair: self = .fair
        case .serious: self = .serious
        case .critical: self = .critical
        @unknown default: self = .serious
        }
    }
}

/// Time in the background, some seconds at most.
public struct PhoneBackgroundTime: BackgroundTime {
    public init() {}

    public func use(for work: @Sendable () async -> Void) async {
        let assertion = await MainActor.run { Assertion() }
        await work()
        await assertion.end()
    }

    @MainActor
    private final class Assertion {
        private var identifier = UIBackgroundTaskIdentifier.invalid

        init() {
            identifier = UIApplication.shared.beginBackgroundTask(withName: "Pause the video") { [weak self] in
                self?.end()
            }
        }

        func end() {
            guard identifier != .invalid else { return }
            UIApplication.shared.endBackgroundTask(identifier)
            identifier = .invalid
        }
    }
}
#endif
