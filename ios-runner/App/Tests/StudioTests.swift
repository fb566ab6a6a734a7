import Foundation
import SoraKit
import Testing

@testable import Sora

/// A job that is always the same video.
private final class SameJob: SoraJob, @unchecked Sendable {
    override func key() -> String { "1" }
}

/// A runner that goes on with every video, and fails it at once.
private final class FailingRunner: SoraRunner, @unchecked Sendable {
    override func unfinished() async throws -> [UnfinishedVideo] { [] }

    override func continueJob(key: String, listener: any JobListener) async throws -> SoraJob {
        try listener.failed(failure: JobFailure(kind: .compute, stage: "vae_decoder", message: "out of luck"))
        return SameJob(noHandle: .init())
    }
}

/// A runner whose only video goes on until it is told to fail.
private final class InterruptedRunner: SoraRunner, @unchecked Sendable {
    private let lock = NSLock()
    private var listeners: [any JobListener] = []
    /// What happens while a video is handed in.
    var meanwhile: @Sendable () async throws -> Void = {}

    static let video = UnfinishedVideo(
        key: "1", prompt: "a cat", seed: 7, widthPx: 64, heightPx: 64, frames: 17, fps: 8, stepsDone: 3, steps: 30,
        obstacle: nil)

    var tries: Int { lock.withLock { listeners.count } }

    override func unfinished() async throws -> [UnfinishedVideo] { [Self.video] }

    override func continueJob(key: String, listener: any JobListener) async throws -> SoraJob {
        try await meanwhile()
        lock.withLock { listeners.append(listener) }
        return SameJob(noHandle: .init())
    }

    func fail(_ kind: FailureKind) throws {
        let latest = lock.withLock { listeners.last }
        try latest?.failed(failure: JobFailure(kind: kind, stage: "vae_decoder", message: "the encoder is gone"))
    }
}

@Suite @MainActor struct StudioTests {
    @Test func aVideoThatFailedAndGoesOnIsOneVideo() async throws {
        let folder = try Folder()
        defer { folder.remove() }
        let studio = Studio(
            runner: FailingRunner(noHandle: .init()), gallery: try Gallery(folder: folder.url), sinks: WritingSinks(),
            newIntervals: { NoIntervals() })
        await studio.goOn(with: InterruptedRunner.video)
        try await until { studio.videos.first?.isOver == true }
        await studio.goOn(with: InterruptedRunner.video)
        #expect(studio.videos.map(\.id) == ["1"])
    }

    /// A studio that hears of an app, and its runner, which has no video yet.
    private struct Away {
        let runner = InterruptedRunner(noHandle: .init())
        let studio: Studio
        let app: AsyncStream<AppPhase>.Continuation
        let following: Task<Void, Never>

        @MainActor init(_ folder: Folder) throws {
            let studio = Studio(
                runner: runner, gallery: try Gallery(folder: folder.url), sinks: WritingSinks(),
                newIntervals: { NoIntervals() })
            let (phases, app) = AsyncStream.makeStream(of: AppPhase.self)
            (self.studio, self.app) = (studio, app)
            following = Task { await studio.follow(phases) }
        }

        @MainActor func enters(_ phase: AppPhase) async throws {
            app.yield(phase)
            try await until { studio.phase == phase }
        }

        @MainActor func fails() async throws {
            try runner.fail(.listener)
            try await until { studio.videos.first?.isOver == true }
            // What goes on at once is seen by then.
            try await Task.sleep(for: .milliseconds(50))
        }

        @MainActor func goesOn(after tries: Int) async throws {
            try await until { runner.tries > tries && studio.videos.first?.isOver == false }
        }
    }

    /// Whatever comes of it, nobody listens afterwards, and no file is left.
    private func withStudio(_ work: (Away) async throws -> Void) async throws {
        let folder = try Folder()
        defer { folder.remove() }
        let away = try Away(folder)
        defer { away.following.cancel() }
        try await work(away)
    }

    @Test func whatFailsBecauseTheAppWasAwayGoesOnWhenItIsBack() async throws {
        try await withStudio { away in
            await away.studio.goOn(with: InterruptedRunner.video)

            try await away.enters(.background)
            try await away.fails()
            // The runner's memory is not there yet.
            try await away.enters(.foreground)
            try await Task.sleep(for: .milliseconds(50))
            #expect(away.runner.tries == 1)
            await away.studio.appReturned()
            try await away.goesOn(after: 1)

            // It was not away since, so this is a failure like any other.
            try await away.fails()
            await away.studio.appReturned()
            #expect(away.runner.tries == 2)
        }
    }

    @Test func whatFailsOnTheWayOutGoesOnToo() async throws {
        try await withStudio { away in
            await away.studio.goOn(with: InterruptedRunner.video)
            try await away.enters(.inactive)
            try await away.fails()
            #expect(away.runner.tries == 1)
            try await away.enters(.foreground)
            await away.studio.appReturned()
            try await away.goesOn(after: 1)
        }
    }

    @Test func anAbsenceCountsFromWhenAVideoIsHandedIn() async throws {
        try await withStudio { away in
            away.runner.meanwhile = {
                try await away.enters(.background)
                try await away.enters(.foreground)
            }
            await away.studio.goOn(with: InterruptedRunner.video)
            away.runner.meanwhile = {}
            try await away.fails()
            #expect(away.runner.tries == 1)
            await away.studio.appReturned()
            try await away.goesOn(after: 1)
        }
    }

    @Test func whoHasLeftAgainIsNotBack() async throws {
        try await withStudio { away in
            await away.studio.goOn(with: InterruptedRunner.video)
            try await away.enters(.background)
            // What the watch says late.
            await away.studio.appReturned()
            try await away.enters(.foreground)
            try await away.fails()
            #expect(away.runner.tries == 1)
            await away.studio.appReturned()
            try await away.goesOn(after: 1)
        }
    }

    @Test func whatIsRefusedSinceTheAppHasLeftAgainGoesOnLater() async throws {
        try await withStudio { away in
            await away.studio.goOn(with: InterruptedRunner.video)
            try await away.enters(.background)
            try await away.fails()
            try await away.enters(.foreground)
            away.runner.meanwhile = {
                try await away.enters(.background)
                throw RunnerError.OverBudget(message: "it was just given back")
            }
            await away.studio.appReturned()
            #expect(away.runner.tries == 1)
            away.runner.meanwhile = {}
            try await away.enters(.foreground)
            await away.studio.appReturned()
            try await away.goesOn(after: 1)
        }
    }
}
