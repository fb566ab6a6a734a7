// A Swift client of the runner that runs on Linux: what the app does, without Apple's frameworks.
import Foundation

enum Failed: Error { case check(String) }

func check(_ condition: Bool, _ what: String) throws {
    if !condition { throw Failed.check(what) }
    print("ok: \(what)")
}

final class CountingSink: VideoSink, @unchecked Sendable {
    // Written by the job's thread, read after the stream has ended.
    var frames = 0
    var brightest: UInt8 = 0
    var finished = false
    var abandoned = false

    func append(_ frames: [SoraFrame]) throws {
        for frame in frames {
            frame.withPixels { pixels in brightest = max(brightest, pixels.max() ?? 0) }
            precondition(frame.withPixels { Data($0) } == frame.rgba())
        }
        self.frames += frames.count
    }
    func finish() throws { finished = true }
    func abandon() { abandoned = true }
}

struct FullDisk: Error, LocalizedError { var errorDescription: String? { "the disk is full" } }

final class FullSink: VideoSink {
    func append(_ frames: [SoraFrame]) throws { throw FullDisk() }
    func finish() throws {}
    func abandon() {}
}

struct Fixed: Surroundings, MemoryProbe, BackgroundTime {
    let pressures: [MemoryPressure]
    let phases: [AppPhase]
    var availableBytes: UInt64? { 400_000_000 }
    var footprintBytes: UInt64 { 300_000_000 }
    func memoryPressure() -> AsyncStream<MemoryPressure> { stream(pressures) }
    func thermalLevels() -> AsyncStream<ThermalLevel> { stream([.serious, .nominal]) }
    func appPhases() -> AsyncStream<AppPhase> { stream(phases) }
    func begin() async -> @Sendable () async -> Void { {} }
    private func stream<T: Sendable>(_ items: [T]) -> AsyncStream<T> {
        AsyncStream { continuation in
            items.forEach { continuation.yield($0) }
            continuation.finish()
        }
    }
}

func run(in folder: String) async throws {
    let config = RunnerConfig(device: .cpu, memoryBudgetBytes: 1 << 30, cacheFolder: folder)
    let runner = try await SoraRunner.open(config: config)
    let model = runner.model()
    try check(model.device == "cpu", "the embedded model opens")

    // A video, its events and its frames.
    let sink = CountingSink()
    let video = try await runner.make(
        VideoRequest(prompt: "a red ball rolls to the right", frames: 17, steps: 5), into: sink)
    var steps = 0
    var streamed = 0
    var finished = false
    for try await event in video.events {
        switch event {
        case .progress(.step(let index, let of, _, _, _, _, _)):
            steps += 1
            try check(Int(index) < Int(of), "step \(index) of \(of)")
        case .written(let count, _): streamed += count
        case .frames: try check(false, "the sink alone takes frames")
        case .finished(let summary):
            finished = true
            try check(summary.stepsComputed == 5, "five steps were computed")
        case .progress, .preview: break
        }
    }
    try check(finished && steps == 5, "the stream ends with the summary")
    try check(sink.frames == 17 && streamed == 17 && sink.finished && !sink.abandoned, "17 frames came, to both")
    try check(sink.brightest > 0, "pixels are read in place")

    // Without a sink frames wait for their reader.
    let slow = try await runner.make(VideoRequest(prompt: "a red ball", frames: 17, steps: 3))
    try await Task.sleep(for: .milliseconds(300))
    var read = 0
    for try await event in slow.events {
        if case .frames(let frames) = event { read += frames.count }
    }
    try check(read == 17, "17 frames are read")

    // Cancelling.
    let long = VideoRequest(prompt: "a red ball", steps: 500)
    let cancelledSink = CountingSink()
    let cancelled = try await runner.make(long, into: cancelledSink)
    var caught: (any Error)?
    do {
        for try await event in cancelled.events {
            if case .progress(.step) = event { cancelled.cancel() }
        }
    } catch { caught = error }
    try check(caught as? VideoError == .cancelled, "a cancelled video throws")
    try check(cancelledSink.abandoned, "and its sink is told")
    try check(try await runner.unfinished().isEmpty, "and nothing of it is saved")

    // Dropping everything cancels, and keeps the work.
    let dropped = try await runner.make(long).key
    while try await runner.status().jobs > 0 { try await Task.sleep(for: .milliseconds(5)) }
    var left = try await runner.unfinished()
    while left.isEmpty { left = try await runner.unfinished() }
    try check(left.map(\.key) == [dropped], "a video that nobody holds is cancelled and stays saved")
    try await runner.forget(key: dropped)

    // A sink that throws keeps the work.
    let full = try await runner.make(VideoRequest(prompt: "a red ball", frames: 1, steps: 3), into: FullSink())
    do {
        for try await _ in full.events {}
        try check(false, "a full disk is told")
    } catch VideoError.failed(let failure) {
        try check(failure.kind == .listener && failure.message.contains("disk is full"), "a full disk is told")
    }
    let unfinished = try await runner.unfinished()
    try check(unfinished.map(\.key) == [full.key] && unfinished[0].stepsDone == 3, "and the work is saved")
    let again = CountingSink()
    for try await _ in try await runner.goOn(with: full.key, into: again).events {}
    try check(again.frames == 1 && again.finished, "it goes on from there")

    // What a phone does.
    let watched = try await runner.make(VideoRequest(prompt: "a red ball", frames: 17, steps: 30))
    let fixed = Fixed(pressures: [.warning, .critical], phases: [.inactive, .foreground])
    await RunnerWatch(runner: runner, surroundings: fixed, probe: fixed, background: fixed).run()
    let budget = try await runner.status().memory.budgetBytes
    try check(budget <= 300_000_000, "a warning shrinks the budget")
    for try await _ in watched.events {}
    try check(try await runner.status().jobs == 0, "a video outlives warnings, heat and the background")

    // Errors.
    do {
        _ = try await runner.make(VideoRequest(prompt: ""))
        try check(false, "an empty prompt is refused")
    } catch RunnerError.BadInput(let message) {
        try check(message.contains("prompt"), "an empty prompt is refused")
    }
    do {
        try await runner.forget(key: "0")
        try check(false, "an unknown key is refused")
    } catch RunnerError.NotFound { try check(true, "an unknown key is refused") }
    try check(runner.metricsText().contains("sora_prompts_total"), "metrics are there")
    await runner.close()
    do {
        _ = try await runner.make(long)
        try check(false, "a closed runner refuses")
    } catch RunnerError.Closed { try check(true, "a closed runner refuses") }
}

@main
struct Client {
    static func main() async {
        let folder = NSTemporaryDirectory() + "/sora-client-\(ProcessInfo.processInfo.processIdentifier)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do {
            try await run(in: folder)
            print("client: all passed")
        } catch {
            print("client: FAILED: \(error)")
            exit(1)
        }
    }
}
