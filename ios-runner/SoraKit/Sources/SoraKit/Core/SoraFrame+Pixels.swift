import Foundation

extension SoraFrame {
    /// Reads the pixels where they are, without a copy: rows from top to bottom, four bytes a pixel (red, green, blue, alpha 255).
    /// The buffer is good within `body` alone.
    public func withPixels<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        // The frame is alive until `body` has returned, and nobody writes to its pixels.
        try withExtendedLifetime(self) {
            let start = UnsafeRawPointer(bitPattern: UInt(rgbaAddress()))
            return try body(UnsafeRawBufferPointer(start: start, count: Int(rgbaLength())))
        }
    }

    /// Bytes of a row.
    public var bytesPerRow: Int { 4 * Int(widthPx()) }
}
