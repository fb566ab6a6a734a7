import Foundation

/// A text in the user's language, by its English form; views do the same with their literals.
func localized(_ text: String) -> String {
    Bundle.main.localizedString(forKey: text, value: text, table: nil)
}
