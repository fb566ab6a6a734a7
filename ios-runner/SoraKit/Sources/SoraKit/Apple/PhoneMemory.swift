#if canImport(Darwin)
import Darwin
import Foundation
import os

/// The memory of this process, as the system counts it.
public struct PhoneMemory: MemoryProbe {
    public init() {}

    public var availableBytes: UInt64? {
        #if os(iOS) && !targetEnvironment(simulator)
        // 0, too, is an answer: the app is at its limit.
        return UInt64(os_proc_available_memory())
        #else
        // There is no limit here.
        return nil
        #endif
    }

    /// This process. Asked for once: each answer is a right that the process holds from then on. (`mach_task_self_` is a variable of
    /// C, which Swift 6 does not let anybody read with the headers of some versions of Xcode.)
    private static let thisTask = task_self_trap()

    public var footprintBytes: UInt64 {
        var info = task_vm_info_data_t()
        var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size)
        let status = withUnsafeMutablePointer(to: &info) { pointer in
            pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                task_info(Self.thisTask, task_flavor_t(TASK_VM_INFO), $0, &count)
            }
        }
        return status == KERN_SUCCESS ? UInt64(info.phys_footprint) : 0
    }
}
#endif
