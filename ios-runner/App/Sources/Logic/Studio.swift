import Foundation
import Observation
import SoraKit

/// What makes a place for a video, behind a protocol since encoders are Apple's.
protocol SinkMaker: Sendable {
    func sink(for file: URL, framesPerSecond: Double) -> any VideoSink
}

/// Makes videos and knows all that are on their way.
@Observable @MainActor
final class Studio {
    private(set) var videos: [VideoProgress] = []
    private(set) var unfinished: [UnfinishedVideo] = []
    private(set) var trouble: String?
    /// Whether previews are asked for.
    var showsPreviews = true

    private let runner: any SoraRunnerProtocol
    private let gallery: Gallery
    private let sinks: any SinkMaker
    private let newIntervals: @Sendable () -> any StageIntervals
    private var running: [String: Video] = [:]
    /// How often the app has been in the background, and where it is.
    private(set) var absences = 0
    private(set) var phase = AppPhase.foreground
    /// Whether the runner has the memory back that it gave in the background.
    private var isReady = true
    /// Keys of videos that failed because the app was away.
    private var interrupted: Set<String> = []

    init(
        runner: any SoraRunnerProtocol, gallery: Gallery, sinks: any SinkMaker,
        newIntervals: @escaping @Sendable () -> any StageIntervals
    ) {
        self.runner = runner
        self.gallery = gallery
        self.sinks = sinks
        self.newIntervals = newIntervals
    }

    func make(_ request: VideoRequest) async {
        let entry = gallery.newEntry(prompt: request.prompt, seed: request.seed)
        let rate = request.fps ?? runner.model().fps
        await begin(entry, frames: Int(request.frames ?? runner.model().frames), rate: rate) { [runner] sink in
            try await runner.make(request, into: sink)
        }
    }

    /// Whether it does.
    @discardableResult
    func goOn(with video: UnfinishedVideo) async -> Bool {
        let entry = gallery.newEntry(prompt: video.prompt, seed: video.seed)
        return await begin(entry, frames: Int(video.frames), rate: video.fps) { [runner] sink in
            try await runner.goOn(with: video.key, into: sink)
        }
    }

    func forget(_ video: UnfinishedVideo) async {
        await attempt { try await self.runner.forget(key: video.key) }
        await refresh()
    }

    func cancel(_ video: VideoProgress) {
        running[video.id]?.cancel()
    }

    func clearEnded() {
        videos.removeAll(where: \.isOver)
    }

    /// Looks for what an earlier run of the app left.
    func refresh() async {
        await attempt { self.unfinished = try await self.runner.unfinished() }
    }

    /// Hears where the app is, until its task is cancelled. In the background the system takes the GPU and the encoder away: what
    /// fails of that goes on after `appReturned`.
    func follow(_ phases: AsyncStream<AppPhase>) async {
        for await phase in phases {
            self.phase = phase
            if phase == .background { (absences, isReady) = (absences + 1, false) }
        }
    }

    /// The app is back, and the runner has its memory: earlier it would refuse what shall go on.
    func appReturned() async {
        // Unless it has left again meanwhile, and returns again.
        isReady = phase != .background
        await goOnWithInterrupted()
    }

    private var isBack: Bool { phase == .foreground && isReady }

    private func goOnWithInterrupted() async {
        guard isBack, !interrupted.isEmpty else { return }
        let keys = interrupted
        interrupted = []
        await refresh()
        for video in unfinished where keys.contains(video.key) && video.obstacle == nil {
            let absencesBefore = absences
            let goesOn = isBack ? await goOn(with: video) : false
            // The app has left meanwhile.
            if !goesOn, !isBack || absences > absencesBefore { interrupted.insert(video.key) }
        }
        // It may be back again already.
        await goOnWithInterrupted()
    }

    /// Whether the video was taken.
    @discardableResult
    private func begin(
        _ entry: Gallery.Entry, frames: Int, rate: Double,
        _ submit: @Sendable (any VideoSink) async throws -> Video
    ) async -> Bool {
        trouble = nil
        let isTaken: Bool
        let absencesBefore = absences
        do {
            let file = sinks.sink(for: gallery.file(of: entry), framesPerSecond: rate)
            let video = try await submit(gallery.sink(for: entry, over: file))
            let progress = VideoProgress(id: video.key, prompt: entry.prompt, frames: frames)
            // It may have failed before, and goes on now.
            videos.removeAll { $0.id == video.key }
            videos.insert(progress, at: 0)
            running[video.key] = video
            Task { await follow(video, progress, absencesBefore) }
            isTaken = true
        } catch {
            trouble = error.localizedDescription
            isTaken = false
        }
        await refresh()
        return isTaken
    }

    private func follow(_ video: Video, _ progress: VideoProgress, _ absencesBefore: Int) async {
        let stages = StageFollower(intervals: newIntervals())
        do {
            for try await event in video.events {
                progress.see(event)
                stages.see(event)
                if showsPreviews, case .progress(.step) = event { video.requestPreview() }
            }
            gallery.refresh()
        } catch {
            progress.ended(with: error)
            let wasAway = absences > absencesBefore || phase != .foreground
            if wasAway, (error as? VideoError)?.mayBeOfAnAbsence == true { interrupted.insert(video.key) }
        }
        stages.ended()
        running[video.key] = nil
        await refresh()
        await goOnWithInterrupted()
    }

    private func attempt(_ work: () async throws -> Void) async {
        do { try await work() } catch { trouble = error.localizedDescription }
    }
}

extension VideoError {
    /// Whether it may have failed because the app was in the background: the encoder throws, the GPU refuses work.
    fileprivate var mayBeOfAnAbsence: Bool {
        switch self {
        case .cancelled: false
        case .failed(let failure): [.listener, .device, .compute].contains(failure.kind)
        }
    }
}
