import Foundation

/// Tells a runner what happens to its phone: memory warnings, heat, the app leaving and coming back.
///
/// `run` goes on until its task is cancelled, or nothing more is told of the phone.
public struct RunnerWatch: Sendable {
    private let runner: any SoraRunnerProtocol
    private let surroundings: any Surroundings
    private let probe: any MemoryProbe
    private let background: any BackgroundTime
    private let budget: MemoryBudget
    private let whereabouts = Whereabouts()

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
            group.addTask { await reportFootprint() }
            await watch()
            group.cancelAll()
        }
    }

    private func watch() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await watchMemory() }
            group.addTask { await watchHeat() }
            group.addTask { await watchPhases() }
        }
    }

    /// The phone tells its apps what they take, and nobody else; the metrics learn it here. Our choice: as often as metrics are
    /// looked at.
    private func reportFootprint() async {
        while !Task.isCancelled {
            runner.reportFootprint(bytes: probe.footprintBytes)
            try? await Task.sleep(for: .seconds(5))
        }
    }

    private func watchMemory() async {
        for await pressure in surroundings.memoryPressure() {
            let bytes = budget.bytes(probe: probe, pressure: pressure)
            // A runner that is closed needs no memory.
            switch pressure {
            case .normal: if !(await whereabouts.isAway) { _ = try? await runner.setMemoryBudget(bytes: bytes) }
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
            // The GPU may not be used in the background: what is computing now is all that is computed.
            case .inactive: await background.use { try? await runner.pause() }
            case .background:
                await whereabouts.leave()
                // Of two apps in the background the larger one is ended first.
                await background.use {
                    try? await runner.pause()
                    _ = try? await runner.memoryWarning(bytes: 0)
                }
            case .foreground:
                if await whereabouts.comeBack() {
                    _ = try? await runner.setMemoryBudget(bytes: budget.bytes(probe: probe))
                }
                runner.resume()
            }
        }
    }
}

/// Whether the app is in the background, where no budget is raised.
private actor Whereabouts {
    private(set) var isAway = false

    func leave() { isAway = true }

    /// Whether it had been away.
    func comeBack() -> Bool {
        defer { isAway = false }
        return isAway
    }
}
