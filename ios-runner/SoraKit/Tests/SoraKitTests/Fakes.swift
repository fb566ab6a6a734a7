import Foundation

@testable import SoraKit

/// A runner that writes down what it is told.
final class FakeRunner: SoraRunnerProtocol, @unchecked Sendable {
    private let lock = NSLock()
    private var log: [String] = []

    var heard: [String] { lock.withLock { log } }

    func hear(_ what: String) { lock.withLock { log.append(what) } }

    private func state(_ bytes: UInt64) -> MemoryState {
        MemoryState(budgetBytes: bytes, usedBytes: 0, peakBytes: 0, spareBytes: 0)
    }

    func memoryWarning(bytes: UInt64) async throws -> MemoryState {
        hear("warning \(bytes)")
        return state(bytes)
    }
    func setMemoryBudget(bytes: UInt64) async throws -> MemoryState {
        hear("budget \(bytes)")
        return state(bytes)
    }
    func thermalState(level: ThermalLevel) { hear("thermal \(level)") }
    func pause() async throws { hear("pause") }
    func resume() { hear("resume") }
    func reportFootprint(bytes: UInt64) {}

    func benchmarkBlocks(fullSize: Bool, iterations: UInt32) async throws -> [BlockTiming] { [] }
    func close() async {}
    func continueJob(key: String, listener: any JobListener) async throws -> SoraJob {
        throw RunnerError.NotFound(message: key)
    }
    func forget(key: String) async throws {}
    func metricsText() -> String { "" }
    func model() -> ModelDescription {
        ModelDescription(
            name: "fake", fingerprint: "", device: "cpu", precision: "f32", widthPx: 64, heightPx: 64, frames: 17, fps: 8,
            steps: 30, guidanceScale: 7)
    }
    func plan(request: VideoRequest) async throws -> VideoPlan { throw RunnerError.Closed(message: "") }
    func pushMetrics(url: String, intervalSeconds: Double) async throws {}
    func runGoldenCases(folder: String) async throws -> [GoldenCase] { [] }
    func status() async throws -> RunnerStatus {
        RunnerStatus(accepting: true, paused: false, jobs: 0, deaths: [], memory: state(0))
    }
    func stopPushing() async throws {}
    func submit(request: VideoRequest, listener: any JobListener) async throws -> SoraJob {
        throw RunnerError.Closed(message: "")
    }
    func unfinished() async throws -> [UnfinishedVideo] { [] }
}

/// How much time in the background was begun, and how much of it has ended.
actor Times {
    private(set) var begun = 0
    private(set) var ended = 0

    func begin() { begun += 1 }
    func end() { ended += 1 }
}

struct FakePhone: Surroundings, MemoryProbe, BackgroundTime {
    var pressures: [MemoryPressure] = []
    var levels: [ThermalLevel] = []
    var phases: [AppPhase] = []
    /// Whether more might come.
    var goesOn = false
    var availableBytes: UInt64? = 1_000
    var footprintBytes: UInt64 = 500
    let times = Times()

    func memoryPressure() -> AsyncStream<MemoryPressure> { stream(pressures) }
    func thermalLevels() -> AsyncStream<ThermalLevel> { stream(levels) }
    func appPhases() -> AsyncStream<AppPhase> { stream(phases) }
    func begin() async -> @Sendable () async -> Void {
        await times.begin()
        return { await times.end() }
    }

    private func stream<Item: Sendable>(_ items: [Item]) -> AsyncStream<Item> {
        AsyncStream { continuation in
            items.forEach { continuation.yield($0) }
            if !goesOn { continuation.finish() }
        }
    }
}
