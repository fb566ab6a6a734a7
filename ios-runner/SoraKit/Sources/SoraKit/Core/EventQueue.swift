import Foundation

/// What a job told and its reader has not read yet. The job's own thread adds, a task reads.
///
/// Events are few, but for frames: those wait for the reader, or are told of without being kept.
final class EventQueue: @unchecked Sendable {
    private enum Look {
        case event(VideoEvent)
        case ended((any Error)?)
        case nothing
    }

    private let lock = NSCondition()
    // All of these are touched with the lock held.
    private var events: [VideoEvent] = []
    private var end: Look?
    private var isRead = true
    private var sleeper: CheckedContinuation<Void, Never>?

    /// Adds an event; what was written since the reader's last look becomes one event.
    func add(_ event: VideoEvent) {
        change {
            if case .written(let more, let last) = event, case .written(let before, _)? = events.last {
                events[events.count - 1] = .written(count: before + more, last: last)
            } else {
                events.append(event)
            }
        }
    }

    /// Adds an event, and returns when it has been read, or when nobody reads any more.
    func addAndWait(_ event: VideoEvent) {
        add(event)
        lock.lock()
        while isRead && !events.isEmpty { lock.wait() }
        lock.unlock()
    }

    /// Nothing follows.
    func finish(throwing error: (any Error)? = nil) {
        change { end = .ended(error) }
    }

    /// Nobody reads any more.
    func leave() {
        change {
            isRead = false
            events = []
        }
    }

    /// The next event, waiting for it; `nil` after the last one, and when the reader's task is cancelled.
    func next() async throws -> VideoEvent? {
        while !Task.isCancelled {
            switch look() {
            case .event(let event): return event
            case .ended(let error?): throw error
            case .ended(nil): return nil
            case .nothing: await wait()
            }
        }
        leave()
        return nil
    }

    private func look() -> Look {
        lock.lock()
        defer { lock.unlock() }
        if !events.isEmpty {
            let event = events.removeFirst()
            lock.broadcast()
            return .event(event)
        }
        return end ?? .nothing
    }

    private func wait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { sleeper in
                lock.lock()
                let wakes = !events.isEmpty || end != nil || Task.isCancelled
                if !wakes { self.sleeper = sleeper }
                lock.unlock()
                if wakes { sleeper.resume() }
            }
        } onCancel: {
            change {}
        }
    }

    /// Changes something, and wakes whoever waits for a change.
    private func change(_ work: () -> Void) {
        lock.lock()
        work()
        let sleeper = sleeper
        self.sleeper = nil
        lock.broadcast()
        lock.unlock()
        sleeper?.resume()
    }
}

/// The reader of a queue; when the last reference goes, the queue hears that nobody reads any more.
final class EventReader: Sendable {
    private let queue: EventQueue

    init(_ queue: EventQueue) { self.queue = queue }

    func next() async throws -> VideoEvent? { try await queue.next() }

    deinit { queue.leave() }
}
