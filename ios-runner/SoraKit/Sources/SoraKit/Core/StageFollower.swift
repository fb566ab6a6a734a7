import Foundation

/// Which stage one video is in, as a profiler wants to hear it.
public struct StageFollower: Sendable {
    private let intervals: any StageIntervals

    public init(intervals: any StageIntervals) {
        self.intervals = intervals
    }

    /// Sees an event on its way.
    public func see(_ event: VideoEvent) {
        switch event {
        case .progress(.queued): intervals.entered("queued")
        case .progress(.embedding): intervals.entered("embed")
        case .progress(.embedded), .progress(.resumed): intervals.entered("denoise")
        case .progress(.decoding): intervals.entered("decode")
        case .finished: intervals.entered(nil)
        case .progress(.step), .preview, .frames, .written: break
        }
    }

    /// The video ended otherwise.
    public func ended() { intervals.entered(nil) }
}
