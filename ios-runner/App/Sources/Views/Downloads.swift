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

    func bytes(of url: URL, from offset: UInt64) async throws -> AsyncThrowingStream<Data, any Error> {
        var request = URLRequest(url: url)
        if offset > 0 { request.setValue("bytes=\(offset)-", forHTTPHeaderField: "Range") }
        let (bytes, response) = try await URLSession.shared.bytes(for: request)
        let status = (response as? HTTPURLResponse)?.statusCode ?? 0
        // The file was there already, to its last byte.
        if status == 416 { return AsyncThrowingStream { $0.finish() } }
        // A server that knows no ranges sends the beginning again, which must not be taken for the rest.
        guard status == (offset > 0 ? 206 : 200) else { throw URLError(.badServerResponse) }
        return AsyncThrowingStream { continuation in
            let reading = Task {
                do {
                    var part = Data(capacity: Self.partBytes)
                    for try await byte in bytes {
                        part.append(byte)
                        if part.count == Self.partBytes {
                            continuation.yield(part)
                            part.removeAll(keepingCapacity: true)
                        }
                    }
                    if !part.isEmpty { continuation.yield(part) }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in reading.cancel() }
        }
    }
}
