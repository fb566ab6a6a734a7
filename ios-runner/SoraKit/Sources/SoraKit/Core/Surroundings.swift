import Foundation

/// What the app can know of its memory.
public protocol MemoryProbe: Sendable {
    /// Bytes that the app can still take before the system ends it; `nil` where the system does not tell.
    var availableBytes: UInt64? { get }
    /// Bytes that count as the app's: what the system compares with its limit.
    var footprintBytes: UInt64 { get }
}

/// How urgent the system's warning is.
public enum MemoryPressure: Sendable, Equatable {
    case normal, warning, critical
}

/// Where the app is. It passes `inactive` on its way out.
public enum AppPhase: Sendable, Equatable {
    case foreground, inactive, background
}

/// What happens around the app, as streams that go on for as long as they are read.
public protocol Surroundings: Sendable {
    func memoryPressure() -> AsyncStream<MemoryPressure>
    func thermalLevels() -> AsyncStream<ThermalLevel>
    /// Where the app is now is told, too, in its place among the changes.
    func appPhases() -> AsyncStream<AppPhase>
}

/// Asks the system for time to finish something in the background.
public protocol BackgroundTime: Sendable {
    /// From now until what this returns is called, the app has some seconds in the background before the system suspends it.
    func begin() async -> @Sendable () async -> Void
}

/// Intervals that a profiler shows.
public protocol StageIntervals: Sendable {
    /// A stage began, and the one before it ended; `nil` ends the last one.
    func entered(_ stage: StaticString?)
}
