#if canImport(os)
import os

/// One `os_signpost` interval a stage, for Instruments.
public final class StageSignposts: StageIntervals {
    private let signposter = OSSignposter(subsystem: "sora", category: "stages")
    private let open = OSAllocatedUnfairLock<(name: StaticString, state: OSSignpostIntervalState)?>(uncheckedState: nil)

    public init() {}

    public func entered(_ stage: StaticString?) {
        let signposter = signposter
        open.withLockUnchecked { open in
            if let (name, state) = open { signposter.endInterval(name, state) }
            open = stage.map { ($0, signposter.beginInterval($0)) }
        }
    }
}
#endif
