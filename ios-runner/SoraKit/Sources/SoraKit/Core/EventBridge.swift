import Foundation

/// Turns the calls to a listener into a stream.
///
/// The runner deletes saved work when `finished` returns. So whoever writes a video does it in `sink`, which is called on the
/// job's own thread before the stream hears of anything: what throws there ends the job, and its work stays saved.
final class EventBridge: JobListener, @unchecked Sendable {
    // Both are set once, before the runner knows of the bridge, and are safe to use from its thread.
    private let continuation: AsyncThrowingStream<VideoEvent, any Error>.Continuation
    private let sink: (any VideoSink)?

    init(_ continuation: AsyncThrowingStream<VideoEvent, any Error>.Continuation, sink: (any VideoSink)?) {
        self.continuation = continuation
        self.sink = sink
    }

    func progress(event: ProgressEvent) throws {
        continuation.yield(.progress(event))
    }

    func preview(stepsDone: UInt32, frame: SoraFrame) throws {
        continuation.yield(.preview(stepsDone: Int(stepsDone), frame: frame))
    }

    func frames(frames: [SoraFrame]) throws {
        try sink.map { sink in try asListenerError { try sink.append(frames) } }
        continuation.yield(.frames(frames))
    }

    func finished(summary: VideoSummary) throws {
        try sink.map { sink in try asListenerError { try sink.finish() } }
        continuation.yield(.finished(summary))
        continuation.finish()
    }

    func failed(failure: JobFailure) throws {
        sink?.abandon()
        continuation.finish(throwing: VideoError.failed(failure))
    }

    func cancelled() throws {
        sink?.abandon()
        continuation.finish(throwing: VideoError.cancelled)
    }

    private func asListenerError(_ work: () throws -> Void) throws {
        do {
            try work()
        } catch {
            throw ListenerError.Failed(reason: error.localizedDescription)
        }
    }
}

/// Takes the frames of one video. Called from one thread, and may block it: that holds up this video alone.
public protocol VideoSink: Sendable {
    /// The next frames, in order.
    func append(_ frames: [SoraFrame]) throws
    /// No more frames come: returns when the video is where it belongs.
    func finish() throws
    /// The video does not come to its end: nothing of it is left.
    func abandon()
}
