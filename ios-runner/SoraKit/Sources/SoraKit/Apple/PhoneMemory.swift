#if canImport(Darwin)
import Darwin
import Foundation
import os

/// The memory of this process, as the system counts it.
public struct PhoneMemory: MemoryProbe {
    public init() {}

    public var availableBytes: UInt64? {
        #if os(iOS)
        // 0 is the answer to a process without a limit, such as one in the simulator.
        let bytes = os_proc_available_memory()
        return bytes > 0 ? UInt64(bytes) : nil
        #else
        return nil
        #endif
    }

    public var footprintBytes: UInt64 {
        var info = task_vm_info_data_t()
        var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size)
        let status = withUnsafeMutablePointer(to: &info) { pointer in
            pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
            }
        }
        return status == KERN_SUCCESS ? UInt64(info.phys_footprint) : 0
    }
}
#endif
