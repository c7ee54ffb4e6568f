import Foundation
import SwiftASN1
import X509

extension AuthorityFolder {
  /// How long tokens that have ended are remembered, so that whoever comes late is told why.
  static let memory: TimeInterval = 30 * 86_400
  /// Most renewals of one participant in a day.
  static let renewalsPerDay = 10

  /// Makes a one-time token for a certificate of `name`.
  /// - Parameters:
  ///   - seconds: for how long the token can be used.
  ///   - days: validity of the certificate.
  ///   - address: where the enrolment service listens, as HOST:PORT; may be empty; at most 255 bytes.
  /// - Throws: `IdentityError`.
  public func makeToken(
    for name: ParticipantName,
    validFor seconds: TimeInterval,
    days: Double,
    address: String = "",
    at date: Date = Date()
  ) throws -> (token: EnrolmentToken, expires: Date) {
    let token = try EnrolmentToken(
      authority: try describingErrors { Digest.sha256Bytes(try authority.certificate.der) },
      name: name,
      address: address
    )
    let issued = Date(timeIntervalSince1970: date.timeIntervalSince1970.rounded(.down))
    let expires = issued.addingTimeInterval(max(seconds.rounded(.up), 1))
    try change { register in
      register.tokens.removeAll { $0.expires.addingTimeInterval(Self.memory) < date }
      register.tokens.append(
        CertificateRegister.Token(
          id: token.id.hexadecimal,
          name: name,
          secretSHA256: Digest.sha256(token.secret),
          issued: issued,
          expires: expires,
          days: days
        )
      )
    }
    return (token, expires)
  }

  /// Gives the certificate that a token is for. That the token is used, by which key and for which certificate is durable
  /// before this returns; asked again with the same key it gives the same certificate.
  /// - Throws: `EnrolmentRefusal`, `IdentityError`.
  func enrol(tokenID: [UInt8], secret: [UInt8], request der: [UInt8], at date: Date) throws -> Certificate {
    let request = try CertificateRequest(der: der)
    return try change { register in
      let id = tokenID.hexadecimal
      let index = register.tokens.firstIndex { $0.id == id }
      // A token that there is not takes as long as one whose secret is wrong, and is refused with the same words.
      let wanted = index.map { register.tokens[$0].secretSHA256 } ?? String(repeating: "0", count: 64)
      let isProven = Digest.isSame(wanted.utf8, Digest.sha256(secret).utf8)
      guard let index, isProven else {
        throw EnrolmentRefusal(code: .unknownToken, text: "the authority has given out no such token")
      }
      let token = register.tokens[index]
      guard token.name == request.name else {
        throw EnrolmentRefusal(
          code: "name-mismatch",
          text: "the token is for '\(token.name)', but the request is for '\(request.name)'"
        )
      }
      if let use = token.use { return try again(use, request, register) }
      guard !token.isRevoked else {
        throw EnrolmentRefusal(code: .revoked, text: "the token was revoked before it was used; ask for a new one")
      }
      guard token.expires > date else {
        throw EnrolmentRefusal(
          code: .expired,
          text: "the token ended on \(token.expires.formatted(.iso8601)); ask for a new one"
        )
      }
      let certificate = try authority.certify(
        request.publicKey,
        as: .participant(token.name),
        validity: .days(token.days, from: date)
      )
      try register.add(certificate, name: token.name, origin: .enrolled)
      register.tokens[index].use = CertificateRegister.Token.Use(
        at: Date(timeIntervalSince1970: date.timeIntervalSince1970.rounded(.down)),
        key: certificate.publicKey.digest,
        serial: CertificateSerial(certificate.serialNumber)
      )
      return certificate
    }
  }

  /// The certificate that a used token was for, for the one who holds its key.
  private func again(
    _ use: CertificateRegister.Token.Use,
    _ request: CertificateRequest,
    _ register: CertificateRegister
  ) throws -> Certificate {
    guard use.key == request.publicKey.digest else {
      throw EnrolmentRefusal(
        code: .usedToken,
        text: "the token was used on \(use.at.formatted(.iso8601)); if that was not you, tell who gave it to you: the "
          + "certificate \(use.serial) has to be revoked"
      )
    }
    guard let issued = register.certificates.first(where: { $0.serial == use.serial }), issued.revocation == nil else {
      throw EnrolmentRefusal(code: .revoked, text: "the certificate \(use.serial) was revoked")
    }
    return try describingErrors { try Certificate(derEncoded: Array(issued.certificate)) }
  }

  /// Gives a participant that holds a certificate the next one, for another key or the same.
  /// - Parameter serial: of the certificate that it showed.
  /// - Throws: `EnrolmentRefusal`, `IdentityError`.
  func renew(
    _ name: ParticipantName,
    serial: CertificateSerial,
    request der: [UInt8],
    at date: Date
  ) throws -> Certificate {
    let request = try CertificateRequest(der: der)
    guard request.name == name else {
      throw EnrolmentRefusal(
        code: "name-mismatch",
        text: "the certificate is '\(name)'s, but the request is for '\(request.name)'"
      )
    }
    return try change { register in
      guard register.revoked[serial] == nil else {
        throw EnrolmentRefusal(code: .revoked, text: "the certificate \(serial) was revoked")
      }
      let key = request.publicKey.digest
      let own = register.certificates.filter { $0.name == name && $0.revocation == nil }
      let known = own.first { $0.serial == serial }
      // An answer that was lost is given again rather than made again.
      if let made = own.last(where: { $0.key == key && $0.serial != serial && $0.origin == .renewed }),
        !made.expiry.isDue(at: date)
      {
        return try describingErrors { try Certificate(derEncoded: Array(made.certificate)) }
      }
      let today = own.filter { $0.origin == .renewed && $0.issued > date.addingTimeInterval(-86_400) }
      guard today.count < Self.renewalsPerDay else {
        throw EnrolmentRefusal(
          code: .tryLater,
          text: "'\(name)' was given \(today.count) certificates within a day; try again tomorrow"
        )
      }
      let seconds = known.map { $0.notAfter.timeIntervalSince($0.issued) } ?? 365 * 86_400
      let certificate = try authority.certify(
        request.publicKey,
        as: .participant(name),
        validity: .days(seconds / 86_400, from: date)
      )
      try register.add(certificate, name: name, origin: .renewed)
      return certificate
    }
  }
}
