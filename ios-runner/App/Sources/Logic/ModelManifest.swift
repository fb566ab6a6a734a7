import Foundation

/// The files of a model as `SHA256SUMS` lists them: one line each, checksum, two spaces, path.
struct ModelManifest: Equatable, Sendable {
    static let name = "SHA256SUMS"

    struct File: Equatable, Sendable {
        let path: String
        let sha256: String
    }

    enum Problem: Error, Equatable {
        case noLine(String)
        case badPath(String)
        case empty
    }

    let files: [File]

    init(text: String) throws {
        files = try text.split(whereSeparator: \.isNewline).map { line in
            let parts = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
            guard parts.count == 2, parts[0].count == 64, parts[0].allSatisfy(\.isHexDigit) else {
                throw Problem.noLine(String(line))
            }
            let path = parts[1].trimmingCharacters(in: CharacterSet(charactersIn: " *"))
            // Names come from elsewhere, and must stay within the model's folder.
            let steps = path.split(separator: "/", omittingEmptySubsequences: false)
            guard !path.hasPrefix("/"), !steps.contains(where: { $0 == ".." || $0 == "." || $0.isEmpty }) else {
                throw Problem.badPath(path)
            }
            return File(path: path, sha256: parts[0].lowercased())
        }
        if files.isEmpty { throw Problem.empty }
    }
}

extension ModelManifest.Problem: LocalizedError {
    var errorDescription: String? {
        switch self {
        case .noLine(let line): String(format: localized("No line of SHA256SUMS: %@"), line)
        case .badPath(let path): String(format: localized("SHA256SUMS names a file outside of the model: %@"), path)
        case .empty: localized("SHA256SUMS is empty.")
        }
    }
}
