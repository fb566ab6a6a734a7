#if canImport(AVFoundation)
import AVFoundation
import CoreVideo
import Foundation

/// Writes frames as H.264 into an MP4 file, which takes its name when it is whole.
///
/// It is called from one thread at a time, the job's, so nothing here is locked. The app is paused in the background, where the
/// system takes the encoder away from what is being written: that throws, and the video is decoded anew when it goes on.
public final class Mp4Writer: VideoSink, @unchecked Sendable {
    private let target: URL
    private let unfinished: URL
    private let framesPerSecond: Double
    private var writing: Writing?
    private var frameCount = 0

    /// Of the times of frames, parts of a second.
    private static let timescale = CMTimeScale(60_000)

    private struct Writing {
        let writer: AVAssetWriter
        let input: AVAssetWriterInput
        let adaptor: AVAssetWriterInputPixelBufferAdaptor
    }

    public init(target: URL, framesPerSecond: Double) {
        self.target = target
        self.framesPerSecond = framesPerSecond
        unfinished = target.deletingPathExtension().appendingPathExtension("unfinished.mp4")
    }

    public func append(_ frames: [SoraFrame]) throws {
        // The job's thread is Rust's, which lets go of no objects by itself.
        for frame in frames { try autoreleasepool { try append(frame) } }
    }

    private func append(_ frame: SoraFrame) throws {
        let writing = try self.writing ?? begin(width: Int(frame.widthPx()), height: Int(frame.heightPx()))
        self.writing = writing
        while !writing.input.isReadyForMoreMediaData {
            guard writing.writer.status == .writing else { throw failure(of: writing.writer) }
            Thread.sleep(forTimeInterval: 0.002)
        }
        let buffer = try pixelBuffer(of: frame, from: writing.adaptor)
        guard writing.adaptor.append(buffer, withPresentationTime: time(of: Int(frame.index()))) else {
            throw failure(of: writing.writer)
        }
        frameCount = Int(frame.index()) + 1
    }

    /// When a frame begins.
    private func time(of index: Int) -> CMTime {
        let value = Double(index) * Double(Self.timescale) / framesPerSecond
        return CMTime(value: CMTimeValue(value), timescale: Self.timescale)
    }

    public func finish() throws {
        guard let writing else { throw CocoaError(.fileWriteUnknown) }
        // The system may have ended it in the background; then the calls below raise what Swift cannot catch.
        guard writing.writer.status == .writing else { throw failure(of: writing.writer) }
        writing.input.markAsFinished()
        // Otherwise the last frame has no length.
        writing.writer.endSession(atSourceTime: time(of: frameCount))
        let done = DispatchSemaphore(value: 0)
        writing.writer.finishWriting { done.signal() }
        done.wait()
        guard writing.writer.status == .completed else { throw failure(of: writing.writer) }
        try FileManager.default.moveItem(at: unfinished, to: target)
    }

    public func abandon() {
        writing?.writer.cancelWriting()
        writing = nil
        try? FileManager.default.removeItem(at: unfinished)
    }

    private func begin(width: Int, height: Int) throws -> Writing {
        try? FileManager.default.removeItem(at: unfinished)
        let writer = try AVAssetWriter(outputURL: unfinished, fileType: .mp4)
        let settings: [String: Any] = [
            AVVideoCodecKey: AVVideoCodecType.h264, AVVideoWidthKey: width, AVVideoHeightKey: height,
        ]
        let input = AVAssetWriterInput(mediaType: .video, outputSettings: settings)
        input.expectsMediaDataInRealTime = false
        let adaptor = AVAssetWriterInputPixelBufferAdaptor(
            assetWriterInput: input,
            sourcePixelBufferAttributes: [
                kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA,
                kCVPixelBufferWidthKey as String: width,
                kCVPixelBufferHeightKey as String: height,
            ]
        )
        writer.add(input)
        guard writer.startWriting() else { throw failure(of: writer) }
        writer.startSession(atSourceTime: .zero)
        return Writing(writer: writer, input: input, adaptor: adaptor)
    }

    /// The encoder takes blue first.
    private func pixelBuffer(
        of frame: SoraFrame, from adaptor: AVAssetWriterInputPixelBufferAdaptor
    ) throws -> CVPixelBuffer {
        var made: CVPixelBuffer?
        guard let pool = adaptor.pixelBufferPool,
            CVPixelBufferPoolCreatePixelBuffer(nil, pool, &made) == kCVReturnSuccess, let buffer = made
        else { throw CocoaError(.fileWriteUnknown) }
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer) else { throw CocoaError(.fileWriteUnknown) }
        let stride = CVPixelBufferGetBytesPerRow(buffer)
        let (width, height) = (Int(frame.widthPx()), Int(frame.heightPx()))
        frame.withPixels { pixels in
            for row in 0..<height {
                let line = base.advanced(by: row * stride).assumingMemoryBound(to: UInt8.self)
                for column in 0..<width {
                    let from = (row * width + column) * 4
                    line[column * 4] = pixels[from + 2]
                    line[column * 4 + 1] = pixels[from + 1]
                    line[column * 4 + 2] = pixels[from]
                    line[column * 4 + 3] = pixels[from + 3]
                }
            }
        }
        return buffer
    }

    private func failure(of writer: AVAssetWriter) -> any Error {
        writer.error ?? CocoaError(.fileWriteUnknown)
    }
}
#endif
