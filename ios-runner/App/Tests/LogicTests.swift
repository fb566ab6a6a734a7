import Foundation
import Testing

@testable import Sora

@Suite struct LogicTests {
    @Test func namesOfFilesStayWithinTheModel() throws {
        let sum = String(repeating: "a", count: 64)
        #expect(try ModelManifest(text: "\(sum)  t5/model.safetensors\n").files[0].path == "t5/model.safetensors")
        for bad in ["\(sum)  ../x", "\(sum)  /x", "\(sum)  a//b", "\(sum)  a/./b"] {
            #expect(throws: ModelManifest.Problem.self) { try ModelManifest(text: bad) }
        }
        for bad in ["", "abc  x", sum] {
            #expect(throws: ModelManifest.Problem.self) { try ModelManifest(text: bad) }
        }
    }
}
