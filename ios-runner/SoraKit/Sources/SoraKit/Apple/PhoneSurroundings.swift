#if canImport(UIKit)
import Foundation
import UIKit

/// What happens around an app on a phone.
public struct PhoneSurroundings: Surroundings {
    public init() {}

    public func memoryPressure() -> AsyncStream<MemoryPressure> {
        AsyncStream { continuation in
            // Sources may be cancelled from any thread, which not every version of the SDK says.
            nonisolated(unsafe) let source = DispatchSource.makeMemoryPressureSource(
                eventMask: [.normal, .warning, .critical])
            source.setEventHandler {
                let data = source.data
                let pressure: MemoryPressure =
                    data.contains(.critical) ? .critical : data.contains(.warning) ? .warning : .normal
                continuation.yield(pressure)
            }
            // The system's warning to this app, whatever the machine's memory is like.
            let observers = Observers()
            observers.add(UIApplication.didReceiveMemoryWarningNotification) { continuation.yield(.warning) }
            continuation.onTermination = { _ in
                source.cancel()
                observers.remove()
            }
            source.activate()
        }
    }

    public func thermalLevels() -> AsyncStream<ThermalLevel> {
        AsyncStream { continuation in
            let tell: @Sendable () -> Void = {
                continuation.yield(ThermalLevel(ProcessInfo.processInfo.thermalState))
            }
            // The notification is sent only to those who have asked before.
            _ = ProcessInfo.processInfo.thermalState
            let observers = Observers()
            observers.add(ProcessInfo.thermalStateDidChangeNotification, tell)
            continuation.onTermination = { _ in observers.remove() }
            tell()
        }
    }

    public func appPhases() -> AsyncStream<AppPhase> {
        AsyncStream { continuation in
            // Observed before this returns, and told by the thread that posts: so none is missed, and none overtakes another.
            let observers = Observers()
            observers.add(UIApplication.willResignActiveNotification) { continuation.yield(.inactive) }
            observers.add(UIApplication.didEnterBackgroundNotification) { continuation.yield(.background) }
            observers.add(UIApplication.didBecomeActiveNotification) { continuation.yield(.foreground) }
            continuation.onTermination = { _ in observers.remove() }
            // Read and told where phases change, so it is never an older one than those told before it.
            Task { @MainActor in _ = continuation.yield(AppPhase(UIApplication.shared.applicationState)) }
        }
    }
}

/// Closures that hear of notifications.
private final class Observers: @unchecked Sendable {
    // Added to before anybody else knows of it, and taken from once, when its stream ends.
    private var tokens: [any NSObjectProtocol] = []

    func add(_ name: Notification.Name, _ tell: @escaping @Sendable () -> Void) {
        tokens.append(NotificationCenter.default.addObserver(forName: name, object: nil, queue: nil) { _ in tell() })
    }

    func remove() {
        tokens.forEach(NotificationCenter.default.removeObserver)
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

extension AppPhase {
    init(_ state: UIApplication.State) {
        switch state {
        case .active: self = .foreground
        case .inactive: self = .inactive
        case .background: self = .background
        @unknown default: self = .inactive
        }
    }
}

/// Time in the background, some seconds at most.
public struct PhoneBackgroundTime: BackgroundTime {
    public init() {}

    public func begin() async -> @Sendable () async -> Void {
        let assertion = await MainActor.run { Assertion() }
        return { await assertion.end() }
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
