import Foundation
import Observation

/// Finished videos: files in a folder, and a list of what they show.
@Observable @MainActor
final class Gallery {
    struct Entry: Codable, Identifiable, Equatable, Sendable {
        let id: UUID
        let prompt: String
        let seed: UInt64
        let made: Date
    }

    private(set) var entries: [Entry] = []
    private let folder: URL
    private var list: URL { folder.appendingPathComponent("gallery.json") }

    init(folder: URL) throws {
        self.folder = folder
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        if let data = try? Data(contentsOf: list) {
            entries = try JSONDecoder().decode([Entry].self, from: data)
        }
        entries.removeAll { !FileManager.default.fileExists(atPath: file(of: $0).path) }
    }

    func newEntry(prompt: String, seed: UInt64) -> Entry {
        Entry(id: UUID(), prompt: prompt, seed: seed, made: Date())
    }

    func file(of entry: Entry) -> URL {
        folder.appendingPathComponent(entry.id.uuidString).appendingPathExtension("mp4")
    }

    /// Enters a video whose file is in its place.
    func add(_ entry: Entry) throws {
        entries.insert(entry, at: 0)
        try save()
    }

    func delete(_ entry: Entry) throws {
        entries.removeAll { $0.id == entry.id }
        try save()
        try FileManager.default.removeItem(at: file(of: entry))
    }

    private func save() throws {
        try JSONEncoder().encode(entries).write(to: list, options: .atomic)
    }
}
