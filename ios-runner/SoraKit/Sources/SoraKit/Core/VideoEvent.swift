import Foundation

/// What becomes of a video, in order. `finished` comes last; a failure or a cancellation is thrown instead.
public enum VideoEvent: Sendable {
    /// It went on.
    case progress(ProgressEvent)
    /// Its first frame as it would be if it were finished after so many steps.
    case preview(stepsDone: Int, frame: SoraFrame)
    /// Its next frames, where no sink takes them. The video waits until this is read.
    case frames([SoraFrame])
    /// The sink took so many frames more, the last of which is this one.
    case written(count: Int, last: SoraFrame)
    /// All frames have come.
    case finished(VideoSummary)
}

/// Why a video did not come to its end.
public enum VideoError: Error, LocalizedError, Equatable {
    /// A stage failed; what was done stays saved.
    case failed(JobFailure)
    /// It was cancelled.
    case cancelled

    public var errorDescription: String? {
        switch self {
        case .failed(let failure): failure.message
        case .cancelled: nil
        }
    }
}
