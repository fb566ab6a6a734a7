import Foundation
import Observation
import SoraKit

/// Finished videos: a file for each, and beside it one that says what it shows.
@Observable @MainActor
final class Gallery {
    struct Entry: Codable, Identifiable, Hashable, Sendable {
        let id: UUID
        let prompt: String
        let seed: UInt64
        let made: Date
    }

    private(set) var entries: [Entry] = []
    private let shelf: GalleryShelf

    init(folder: URL) throws {
        shelf = GalleryShelf(folder: folder)
        try shelf.prepare()
        refresh()
    }

    func newEntry(prompt: String, seed: UInt64) -> Entry {
        Entry(id: UUID(), prompt: prompt, seed: seed, made: Date())
    }

    func file(of entry: Entry) -> URL { shelf.video(entry.id) }

    /// Takes the frames of an entry's video, and has the entry in its place before the runner forgets the video.
    func sink(for entry: Entry, over sink: any VideoSink) -> any VideoSink {
        EnteringSink(sink: sink, entry: entry, shelf: shelf)
    }

    /// Looks at the folder again.
    func refresh() {
        entries = shelf.entries()
    }

    func delete(_ entry: Entry) throws {
        try shelf.delete(entry.id)
        refresh()
    }
}

/// The folder of finished videos. Nothing of it is in memory, so that a damaged file costs no other one.
struct GalleryShelf: Sendable {
    let folder: URL

    func video(_ id: UUID) -> URL { folder.appendingPathComponent("\(id.uuidString).mp4") }

    private func note(_ id: UUID) -> URL { folder.appendingPathComponent("\(id.uuidString).json") }

    /// Makes the folder, and removes what an app left that was ended while it wrote. No video may be on its way here.
    func prepare() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for name in names() where name.hasSuffix(".unfinished.mp4") {
            try? FileManager.default.removeItem(at: folder.appendingPathComponent(name))
        }
        let videos = Set(ids(".mp4"))
        for id in ids(".json") where !videos.contains(id) { deleteNote(id) }
    }

    func write(_ entry: Gallery.Entry) throws {
        try JSONEncoder().encode(entry).write(to: note(entry.id), options: .atomic)
    }

    func delete(_ id: UUID) throws {
        try FileManager.default.removeItem(at: video(id))
        deleteNote(id)
    }

    func deleteNote(_ id: UUID) {
        try? FileManager.default.removeItem(at: note(id))
    }

    /// All videos, the latest first. One whose note is damaged has no prompt.
    func entries() -> [Gallery.Entry] {
        ids(".mp4").map { entry($0) }.sorted { $0.made > $1.made }
    }

    /// Of all files with this ending; others are none of the gallery's.
    private func ids(_ ending: String) -> [UUID] {
        names().compactMap { name in
            name.hasSuffix(ending) ? UUID(uuidString: String(name.dropLast(ending.count))) : nil
        }
    }

    private func entry(_ id: UUID) -> Gallery.Entry {
        if let data = try? Data(contentsOf: note(id)), let entry = try? JSONDecoder().decode(Gallery.Entry.self, from: data),
            entry.id == id
        {
            return entry
        }
        let attributes = try? FileManager.default.attributesOfItem(atPath: video(id).path)
        let made = attributes?[.modificationDate] as? Date
        return Gallery.Entry(id: id, prompt: "", seed: 0, made: made ?? .distantPast)
    }

    private func names() -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    }
}

/// Writes down what a video shows before the video takes its name.
private struct EnteringSink: VideoSink {
    let sink: any VideoSink
    let entry: Gallery.Entry
    let shelf: GalleryShelf

    func append(_ frames: [SoraFrame]) throws { try sink.append(frames) }

    func finish() throws {
        try shelf.write(entry)
        try sink.finish()
    }

    func abandon() {
        sink.abandon()
        shelf.deleteNote(entry.id)
    }
}
