import Foundation
import Testing

@testable import SoraKit

@Suite struct EventQueueTests {
    @Test func eventsComeInOrderAndThenTheEnd() async throws {
        let queue = EventQueue()
        queue.add(.progress(.embedding))
        queue.add(.progress(.decoding))
        queue.finish()
        var names: [String] = []
        while let event = try await queue.next() { names.append("\(event)") }
        #expect(names.count == 2 && names[0].contains("embedding") && names[1].contains("decoding"))
    }

    @Test func aFailureComesAfterWhatWasTold() async throws {
        let queue = EventQueue()
        queue.add(.progress(.embedding))
        queue.finish(throwing: VideoError.cancelled)
        #expect(try await queue.next() != nil)
        await #expect(throws: VideoError.cancelled) { _ = try await queue.next() }
    }

    @Test func whoeverWaitsIsWoken() async throws {
        let queue = EventQueue()
        let reading = Task { try await queue.next() }
        try await Task.sleep(for: .milliseconds(20))
        queue.add(.progress(.embedding))
        #expect(try await reading.value != nil)
        let cancelled = Task { try await queue.next() }
        try await Task.sleep(for: .milliseconds(20))
        cancelled.cancel()
        #expect(try await cancelled.value == nil)
    }

    @Test func framesWaitForTheirReader() async throws {
        let queue = EventQueue()
        let told = Thread.Mark()
        Thread.detachNewThread {
            queue.addAndWait(.frames([]))
            told.set()
        }
        try await Task.sleep(for: .milliseconds(50))
        #expect(!told.isSet)
        _ = try await queue.next()
        while !told.isSet { try await Task.sleep(for: .milliseconds(1)) }
    }

    @Test func nobodyIsWaitedForWhoHasLeft() {
        let queue = EventQueue()
        _ = EventReader(queue)
        queue.addAndWait(.frames([]))
    }
}

extension Thread {
    /// Something that has happened.
    final class Mark: @unchecked Sendable {
        private let lock = NSLock()
        private var happened = false

        var isSet: Bool { lock.withLock { happened } }
        func set() { lock.withLock { happened = true } }
    }
}
