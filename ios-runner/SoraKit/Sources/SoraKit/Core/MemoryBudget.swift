import Foundation

/// How much memory the runner may take. Pure, so that it can be tested anywhere.
public struct MemoryBudget: Sendable, Equatable {
    /// Bytes for the rest of the app: views, the video's encoder, thumbnails. Our choice.
    public var reserveBytes: UInt64
    /// Never more than this, whatever is free: what is taken from other apps is paid for when they are opened again. The paper's phone
    /// has 3.3 GB.
    public var mostBytes: UInt64

    public init(reserveBytes: UInt64 = 200_000_000, mostBytes: UInt64 = 3_300_000_000) {
        self.reserveBytes = reserveBytes
        self.mostBytes = mostBytes
    }

    /// The budget of the runner: what the app has now, and what it can still get, less the reserve; under pressure half of what
    /// could still be got, or none of it. Where the system does not tell what is left, nothing is taken to be left under pressure.
    public func bytes(probe: some MemoryProbe, pressure: MemoryPressure = .normal) -> UInt64 {
        let footprint = probe.footprintBytes
        let available = probe.availableBytes
        let growth =
            switch pressure {
            case .normal: available ?? mostBytes
            case .warning: (available ?? 0) / 2
            case .critical: UInt64(0)
            }
        let all = footprint.addingReportingOverflow(growth)
        let limit = all.overflow ? UInt64.max : all.partialValue
        return min(mostBytes, limit > reserveBytes ? limit - reserveBytes : 0)
    }
}
