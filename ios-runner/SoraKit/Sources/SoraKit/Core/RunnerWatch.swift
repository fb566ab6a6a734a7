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
    private let rhythm: Rhythm
    private let afterReturn: @Sendable () async -> Void
    private let whereabouts = Whereabouts()

    /// When it looks at memory by itself.
    public struct Rhythm: Sendable {
        /// Between two looks. Our choice: as often as metrics are looked at.
        public var look: Duration
        /// A warning is over when no other one has come for so long, whether the system says so or not: of what it tells this app
        /// alone it never does. Our choice.
        public var calm: Duration

        public init(look: Duration = .seconds(5), calm: Duration = .seconds(60)) {
            self.look = look
            self.calm = calm
        }
    }

    /// `afterReturn` is called when the app is back, and the runner has its memory and goes on. The next phase waits until it returns.
    public init(
        runner: any SoraRunnerProtocol,
        surroundings: any Surroundings,
        probe: any MemoryProbe,
        background: any BackgroundTime,
        budget: MemoryBudget = MemoryBudget(),
        rhythm: Rhythm = Rhythm(),
        afterReturn: @escaping @Sendable () async -> Void = {}
    ) {
        self.runner = runner
        self.surroundings = surroundings
        self.probe = probe
        self.background = background
        self.budget = budget
        self.rhythm = rhythm
        self.afterReturn = afterReturn
    }

    public func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await lookAtMemory() }
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

    /// The phone tells its apps what they take, and nobody else; the metrics learn it here.
    private func lookAtMemory() async {
        while !Task.isCancelled {
            runner.reportFootprint(bytes: probe.footprintBytes)
            if await whereabouts.isCalmAgain(after: rhythm.calm) { await raiseBudget() }
            try? await Task.sleep(for: rhythm.look)
        }
    }

    /// A runner that is closed needs no memory.
    private func raiseBudget() async {
        _ = try? await runner.setMemoryBudget(bytes: budget.bytes(probe: probe))
    }

    private func watchMemory() async {
        for await pressure in surroundings.memoryPressure() {
            switch pressure {
            case .normal: if await whereabouts.isCalmed() { await raiseBudget() }
            case .warning, .critical:
                await whereabouts.warned()
                _ = try? await runner.memoryWarning(bytes: budget.bytes(probe: probe, pressure: pressure))
            }
        }
    }

    private func watchHeat() async {
        for await level in surroundings.thermalLevels() {
            runner.thermalState(level: level)
        }
    }

    private func watchPhases() async {
        // From the way out until memory is given back: between the two the app may be in the background already.
        var time: (@Sendable () async -> Void)?
        for await phase in surroundings.appPhases() {
            if phase != .foreground, time == nil { time = await background.begin() }
            switch phase {
            // The GPU may not be used in the background: what is computing now is all that is computed.
            case .inactive:
                try? await runner.pause()
                continue
            case .background:
                await whereabouts.leave()
                try? await runner.pause()
                // Of two apps in the background the larger one is ended first.
                _ = try? await runner.memoryWarning(bytes: 0)
            case .foreground:
                if await whereabouts.comeBack() { await raiseBudget() }
                runner.resume()
                await afterReturn()
            }
            await time?()
            time = nil
        }
        await time?()
    }
}

/// Whether the app is in the background, where no budget is raised, and when it was warned.
private actor Whereabouts {
    private var isAway = false
    private var warning: ContinuousClock.Instant?

    func leave() { isAway = true }

    /// Whether it had been away.
    func comeBack() -> Bool {
        defer { (isAway, warning) = (false, isAway ? nil : warning) }
        return isAway
    }

    func warned() { warning = .now }

    /// All warnings are over: whether the budget may be raised.
    func isCalmed() -> Bool {
        if !isAway { warning = nil }
        return !isAway
    }

    /// Whether a warning is over by now, and the budget may be raised. It is said once.
    func isCalmAgain(after calm: Duration) -> Bool {
        guard let warning, warning.duration(to: .now) >= calm else { return false }
        return isCalmed()
    }
}
