import Foundation

/// A video on its way. When nobody holds it or reads its events any more it is cancelled, and what was done stays saved.
public final class Video: Sendable {
    /// Names it among the unfinished ones.
    public var key: String { job.key() }

    /// What becomes of it. One reader at a time.
    public let events: AsyncThrowingStream<VideoEvent, any Error>

    private let job: any SoraJobProtocol

    init(job: any SoraJobProtocol, events: AsyncThrowingStream<VideoEvent, any Error>) {
        self.job = job
        self.events = events
    }

    /// Ends it and deletes what was done; `false` when it was over.
    @discardableResult
    public func cancel() -> Bool { job.cancel() }

    /// Asks for a preview after one of the next steps.
    public func requestPreview() { job.requestPreview() }
}

extension SoraRunnerProtocol {
    /// Hands in a video; its frames go to `sink` first.
    public func make(_ request: VideoRequest, into sink: (any VideoSink)? = nil) async throws -> Video {
        try await follow(sink) { try await self.submit(request: request, listener: $0) }
    }

    /// Goes on with an unfinished video; all of its frames come, whatever was seen of it before.
    public func goOn(with key: String, into sink: (any VideoSink)? = nil) async throws -> Video {
        try await follow(sink) { try await self.continueJob(key: key, listener: $0) }
    }

    private func follow(
        _ sink: (any VideoSink)?,
        _ begin: (any JobListener) async throws -> any SoraJobProtocol
    ) async throws -> Video {
        let queue = EventQueue()
        let reader = EventReader(queue)
        let job = try await begin(EventBridge(queue, sink: sink))
        // Whoever reads the events needs the job; when the stream is dropped, it lets go of it.
        let events = AsyncThrowingStream<VideoEvent, any Error>(unfolding: {
            try await withExtendedLifetime(job) { reader }.next()
        })
        return Video(job: job, events: events)
    }
}
