import Foundation

extension RunnerError: LocalizedError {
    /// The runner's own text: what is wrong, and what to do.
    public var errorDescription: String? { text }

    /// As `errorDescription`.
    public var text: String {
        switch self {
        case .BadInput(let message), .BadModel(let message), .Device(let message), .OverBudget(let message),
            .QueueFull(let message), .Closed(let message), .NotFound(let message), .Busy(let message),
            .SavedWork(let message), .System(let message), .Telemetry(let message):
            message
        }
    }
}

extension ListenerError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .Failed(let reason): reason
        }
    }
}
