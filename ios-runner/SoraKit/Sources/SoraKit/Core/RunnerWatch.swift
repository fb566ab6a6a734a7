import Foundation

/// Tells a runner what happens to its phone: memory warnings, heat, the app leaving and coming back.
///
/// `run` goes on until its task is cancelled.
public struct RunnerWatch: Sendable {
    private let runner: any SoraRunnerProtocol
    private let surroundings: any Surroundings
    private let probe: any MemoryProbe
    private let background: any BackgroundTime
    private let budget: MemoryBudget

    public init(
        runner: any SoraRunnerProtocol,
        surroundings: any Surroundings,
        probe: any MemoryProbe,
        background: any BackgroundTime,
        budget: MemoryBudget = MemoryBudget()
    ) {
        self.runner = runner
        self.surroundings = surroundings
        self.probe = probe
        self.background = background
        self.budget = budget
    }

    public func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await watchMemory() }
            group.addTask { await watchHeat() }
            group.addTask { await watchPhases() }
        }
    }

    private func watchMemory() async {
        for await pressure in surroundings.memoryPressure() {
            let bytes = bytes(under: pressure)
            // A runner that is closed needs no memory.
            switch pressure {
            case .normal: _ = try? await runner.setMemoryBudget(bytes: bytes)
            case .warning, .critical: _ = try? await runner.memoryWarning(bytes: bytes)
            }
        }
    }

    private func watchHeat() async {
        for await level in surroundings.thermalLevels() {
            runner.thermalState(level: level)
        }
    }

    private func watchPhases() async {
        for await phase in surroundings.appPhases() {
            switch phase {
            case .foreground: runner.resume()
            // The GPU may not be used in the background: what is computing now is all that is computed.
            case .background: await background.use { try? await runner.pause() }
            }
        }
    }

    private func bytes(under pressure: MemoryPressure) -> UInt64 {
        budget.bytes(probe: probe, pressure: pressure)
    }
}
