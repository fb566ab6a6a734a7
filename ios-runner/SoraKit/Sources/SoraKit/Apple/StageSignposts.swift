#if canImport(os)
import os

/// One `os_signpost` interval a stage of one video, for Instruments: videos overlap, so each has its own.
public final class StageSignposts: StageIntervals {
    private let signposter: OSSignposter
    private let video: OSSignpostID
    private let open = OSAllocatedUnfairLock<(name: StaticString, state: OSSignpostIntervalState)?>(uncheckedState: nil)

    public init() {
        signposter = OSSignposter(subsystem: "sora", category: "stages")
        video = signposter.makeSignpostID()
    }

    public func entered(_ stage: StaticString?) {
        let (signposter, video) = (signposter, video)
        open.withLockUnchecked { open in
            if let (name, state) = open { signposter.endInterval(name, state) }
            open = stage.map { ($0, signposter.beginInterval($0, id: video)) }
        }
    }
}
#endif
