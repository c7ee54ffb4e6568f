import Foundation

/// What `fedlora ca revoke` takes back.
public enum RevocationTarget: Sendable, Equatable {
  /// Every certificate of a participant that has not ended, and its tokens that were not used.
  case participant(ParticipantName)
  /// One certificate, also one that the register does not know.
  case serial(CertificateSerial)
}

/// What a revocation came to.
public struct RevocationResult: Sendable, Equatable {
  /// The certificates that were taken back now.
  public let certificates: [CertificateSerial]
  /// How many unused tokens were taken back with them.
  public let tokens: Int
  /// Number of the list that says so.
  public let listNumber: UInt64
}

extension AuthorityFolder {
  /// Takes certificates back. It holds from the moment that a coordinator reads the new list; doing it again changes
  /// nothing.
  /// - Parameter reason: for people; kept in the register.
  /// - Throws: `IdentityError.nothingToRevoke` where there is neither a certificate nor a token.
  public func revoke(_ target: RevocationTarget, reason: String = "", at date: Date = Date()) throws -> RevocationResult
  {
    try change { register in
      let date = Date(timeIntervalSince1970: date.timeIntervalSince1970.rounded(.down))
      var known = false
      var revoked: [CertificateSerial] = []
      for index in register.certificates.indices {
        let certificate = register.certificates[index]
        switch target {
        case .participant(let name): guard certificate.name == name, certificate.notAfter > date else { continue }
        case .serial(let serial): guard certificate.serial == serial else { continue }
        }
        known = true
        guard certificate.revocation == nil else { continue }
        register.certificates[index].revocation = IssuedCertificate.Revocation(at: date, reason: reason)
        revoked.append(certificate.serial)
      }
      var tokens = 0
      if case .participant(let name) = target {
        for index in register.tokens.indices
        where register.tokens[index].name == name && register.tokens[index].use == nil {
          known = true
          guard !register.tokens[index].isRevoked, register.tokens[index].expires > date else { continue }
          register.tokens[index].isRevoked = true
          tokens += 1
        }
      }
      if case .serial(let serial) = target, !known {
        known = true
        if register.strangers[serial.rawValue] == nil {
          register.strangers[serial.rawValue] = date
          revoked.append(serial)
        }
      }
      guard known else { throw IdentityError.nothingToRevoke("\(target)") }
      if !revoked.isEmpty { register.listNumber += 1 }
      return RevocationResult(certificates: revoked, tokens: tokens, listNumber: register.listNumber)
    }
  }
}

extension RevocationTarget: CustomStringConvertible {
  /// The target as it is written in messages.
  public var description: String {
    switch self {
    case .participant(let name): "participant '\(name)'"
    case .serial(let serial): "the certificate \(serial)"
    }
  }
}
