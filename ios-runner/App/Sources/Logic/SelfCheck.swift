import Foundation
import Observation
import SoraKit

/// Whether this phone computes what the reference does, and how fast.
@Observable @MainActor
final class SelfCheck {
    private(set) var cases: [GoldenCase] = []
    private(set) var timings: [BlockTiming] = []
    private(set) var isRunning = false
    private(set) var trouble: String?

    private let runner: any SoraRunnerProtocol
    private let golden: URL?

    /// `golden` is the folder of cases that the app carries.
    init(runner: any SoraRunnerProtocol, golden: URL?) {
        self.runner = runner
        self.golden = golden
    }

    var passed: Int { cases.filter(\.passed).count }

    func runCases() async {
        guard let golden else {
            trouble = localized("The app was built without golden cases.")
            return
        }
        await whileRunning { self.cases = try await self.runner.runGoldenCases(folder: golden.path) }
    }

    func runBenchmark(fullSize: Bool) async {
        await whileRunning {
            self.timings = try await self.runner.benchmarkBlocks(fullSize: fullSize, iterations: 3)
        }
    }

    private func whileRunning(_ work: () async throws -> Void) async {
        guard !isRunning else { return }
        (isRunning, trouble) = (true, nil)
        defer { isRunning = false }
        do { try await work() } catch { trouble = error.localizedDescription }
    }
}
