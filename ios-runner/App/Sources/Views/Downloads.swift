import CryptoKit
import Foundation

/// SHA-256 by CryptoKit.
struct Sha256Checksum: Checksum {
    private var hasher = SHA256()

    mutating func update(_ data: Data) { hasher.update(data: data) }

    mutating func finish() -> String {
        hasher.finalize().map { String(format: "%02x", $0) }.joined()
    }
}

/// Fetches the rest of a file by HTTP.
struct HttpRangeFetcher: RangeFetcher {
    /// Bytes that are handed on together. Our choice.
    private static let partBytes = 1 << 18

    func fetch(
        _ url: URL, from offset: UInt64, begin: @Sendable (UInt64) async throws -> Void,
        take: @Sendable (Data) async throws -> Void
    ) async throws {
        // A list of checksums that was packed anew since is no longer the one in the cache; weights are none of its business.
        var request = URLRequest(url: url, cachePolicy: .reloadIgnoringLocalCacheData)
        if offset > 0 { request.setValue("bytes=\(offset)-", forHTTPHeaderField: "Range") }
        let (bytes, response) = try await URLSession.shared.bytes(for: request)
        switch (response as? HTTPURLResponse)?.statusCode {
        case 206: try await begin(offset)
        // A server that knows no ranges sends the file from its beginning.
        case 200: try await begin(0)
        // The file was there already, to its last byte.
        case 416: return try await begin(offset)
        default: throw URLError(.badServerResponse)
        }
        var part = Data(capacity: Self.partBytes)
        for try await byte in bytes {
            part.append(byte)
            if part.count == Self.partBytes {
                try await take(part)
                part.removeAll(keepingCapacity: true)
            }
        }
        if !part.isEmpty { try await take(part) }
    }
}

/// Folders of other apps and of the cloud, and backups.
struct PhoneFolders: FolderAccess {
    func read(_ folder: URL, _ work: @Sendable (URL) throws -> Void) async throws {
        let granted = folder.startAccessingSecurityScopedResource()
        defer { if granted { folder.stopAccessingSecurityScopedResource() } }
        try Task.checkCancellation()
        // It may be cancelled from any thread, which its type does not say.
        nonisolated(unsafe) let coordinator = NSFileCoordinator()
        try await withTaskCancellationHandler {
            var refused: NSError?
            var outcome: Result<Void, any Error> = .success(())
            // Its provider brings what is not on the phone yet, and changes nothing meanwhile.
            coordinator.coordinate(readingItemAt: folder, error: &refused) { place in
                outcome = Result { try work(place) }
            }
            if let refused { throw refused }
            try outcome.get()
        } onCancel: {
            // Otherwise it waits for the provider for as long as that takes.
            coordinator.cancel()
        }
    }

    func keepOutOfBackups(_ folder: URL) throws {
        var folder = folder
        var values = URLResourceValues()
        values.isExcludedFromBackup = true
        try folder.setResourceValues(values)
    }
}
