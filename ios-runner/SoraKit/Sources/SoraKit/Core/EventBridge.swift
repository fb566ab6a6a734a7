import Foundation

/// Turns the calls to a listener into a stream.
///
/// The runner deletes saved work when `finished` returns. So whoever writes a video does it in `sink`, which is called on the
/// job's own thread before the stream hears of anything: what throws there ends the job, and its work stays saved.
///
/// A slow reader holds up the video's decoding, and no frames pile up: a sink has taken them when it returns, and without one
/// they are waited for until they are read.
final class EventBridge: JobListener, Sendable {
    private let queue: EventQueue
    private let sink: (any VideoSink)?

    init(_ queue: EventQueue, sink: (any VideoSink)?) {
        self.queue = queue
        self.sink = sink
    }

    func progress(event: ProgressEvent) throws {
        queue.add(.progress(event))
    }

    func preview(stepsDone: UInt32, frame: SoraFrame) throws {
        queue.add(.preview(stepsDone: Int(stepsDone), frame: frame))
    }

    func frames(frames: [SoraFrame]) throws {
        guard let sink else { return queue.addAndWait(.frames(frames)) }
        try asListenerError { try sink.append(frames) }
        if let last = frames.last { queue.add(.written(count: frames.count, last: last)) }
    }

    func finished(summary: VideoSummary) throws {
        try sink.map { sink in try asListenerError { try sink.finish() } }
        queue.add(.finished(summary))
        queue.finish()
    }

    func failed(failure: JobFailure) throws {
        sink?.abandon()
        queue.finish(throwing: VideoError.failed(failure))
    }

    func cancelled() throws {
        sink?.abandon()
        queue.finish(throwing: VideoError.cancelled)
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
