import Foundation

/// Something is wrong with a name, a key or a certificate.
public enum IdentityError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Not a participant's name.
  case invalidName(String)
  /// Not the serial number of a certificate.
  case invalidSerial(String)
  /// Not a one-time token.
  case invalidToken(String)
  /// Neither a certificate that still counts nor a token.
  case nothingToRevoke(String)
  /// A file or folder that would be overwritten.
  case alreadyExists(path: String)
  /// A file that cannot be read.
  case unreadable(path: String, reason: String)
  /// A file that cannot be written.
  case unwritable(path: String, reason: String)
  /// A file that does not hold what it should.
  case invalidFile(path: String, reason: String)
  /// The private key is not the one of the certificate.
  case keyMismatch(certificate: String, key: String)
  /// The validity ends before it begins.
  case invalidValidity(from: Date, until: Date)
  /// The library for certificates or TLS refuses.
  case certificate(reason: String)

  /// A sentence with the details.
  public var description: String {
    switch self {
    case .invalidName(let name):
      "'\(name)' is not a participant's name: it takes 1 to 64 of A-Z a-z 0-9 . _ - and no dot at the start"
    case .invalidSerial(let text):
      "'\(text)' is no serial number of a certificate: it takes 1 to 40 hexadecimal digits and is not 0"
    case .invalidToken(let reason): "the token cannot be used: \(reason)"
    case .nothingToRevoke(let target):
      "\(target) has no certificate that still counts and no token; 'fedlora ca list' shows what there is"
    case .alreadyExists(let path): "\(path) exists already; remove it first if it is to be replaced"
    case .unreadable(let path, let reason): "cannot read \(path): \(reason)"
    case .unwritable(let path, let reason): "cannot write \(path): \(reason)"
    case .invalidFile(let path, let reason): "\(path) cannot be used: \(reason)"
    case .keyMismatch(let certificate, let key):
      "the key in \(key) does not belong to the certificate in \(certificate)"
    case .invalidValidity(let from, let until):
      "a validity from \(from.formatted(.iso8601)) until \(until.formatted(.iso8601)) is empty"
    case .certificate(let reason): "certificate: \(reason)"
    }
  }
}
