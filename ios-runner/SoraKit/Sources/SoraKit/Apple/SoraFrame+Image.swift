#if canImport(CoreGraphics)
import CoreGraphics
import Foundation

extension SoraFrame {
    /// A picture over the frame's own pixels, which it keeps alive.
    public func image() -> CGImage? {
        let holder = Unmanaged.passRetained(self)
        let start = UnsafeRawPointer(bitPattern: UInt(rgbaAddress()))
        guard let start,
            let provider = CGDataProvider(
                dataInfo: holder.toOpaque(), data: start, size: Int(rgbaLength()),
                releaseData: { info, _, _ in
                    if let info { Unmanaged<SoraFrame>.fromOpaque(info).release() }
                })
        else {
            holder.release()
            return nil
        }
        return CGImage(
            width: Int(widthPx()), height: Int(heightPx()), bitsPerComponent: 8, bitsPerPixel: 32, bytesPerRow: bytesPerRow,
            space: CGColorSpaceCreateDeviceRGB(),
            bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.noneSkipLast.rawValue), provider: provider, decode: nil,
            shouldInterpolate: true, intent: .defaultIntent)
    }
}
#endif
