import Foundation
import Observation
import SoraKit

/// Metrics to read, to push, and to take away.
@Observable @MainActor
final class TelemetryDesk {
    private(set) var text = ""
    private(set) var trouble: String?
    private(set) var isPushing = false
    var gateway = ""
    /// The text as a file to share.
    private(set) var page: URL?

    /// Lines of JSON, for a Mac to collect.
    let file: URL
    private let runner: any SoraRunnerProtocol

    /// `trouble` is why telemetry does not go where it shall.
    init(runner: any SoraRunnerProtocol, file: URL, trouble: String?) {
        self.runner = runner
        self.file = file
        self.trouble = trouble
    }

    func refresh() {
        text = runner.metricsText()
        page = try? exported()
    }

    func push(every seconds: Double = 10) async {
        do {
            try await runner.pushMetrics(url: gateway, intervalSeconds: seconds)
            (isPushing, trouble) = (true, nil)
        } catch {
            trouble = error.localizedDescription
        }
    }

    func stopPushing() async {
        try? await runner.stopPushing()
        isPushing = false
    }

    private func exported() throws -> URL {
        let page = FileManager.default.temporaryDirectory.appendingPathComponent("sora-metrics.prom")
        try Data(text.utf8).write(to: page, options: .atomic)
        return page
    }
}
