import Crypto
import SwiftASN1
import X509

/// The signature algorithms that an identity's key may have.
public enum IdentityKeyKind: String, Sendable, CaseIterable, Codable {
  /// ECDSA on NIST P-256; what `fedlora ca issue` makes.
  case p256
  /// Ed25519 (RFC 8032).
  case ed25519

  /// The kind of a public key; nil for one that fedlora does not use.
  init?(_ key: Certificate.PublicKey) {
    if P256.Signing.PublicKey(key) != nil {
      self = .p256
    } else if Curve25519.Signing.PublicKey(key) != nil {
      self = .ed25519
    } else {
      return nil
    }
  }
}

/// The private key of an identity. Nothing prints it.
struct IdentityKey: Sendable {
  let kind: IdentityKeyKind
  let privateKey: Certificate.PrivateKey

  var publicKey: Certificate.PublicKey { privateKey.publicKey }

  /// A new key from the system's generator.
  init(generating kind: IdentityKeyKind) {
    self.kind = kind
    privateKey =
      switch kind {
      case .p256: Certificate.PrivateKey(P256.Signing.PrivateKey())
      case .ed25519: Certificate.PrivateKey(Curve25519.Signing.PrivateKey())
      }
  }

  /// Reads a key in PEM.
  /// - Throws: where it is none, or of another kind.
  init(pem: String) throws {
    privateKey = try Certificate.PrivateKey(pemEncoded: pem)
    guard let kind = IdentityKeyKind(privateKey.publicKey) else {
      throw IdentityError.certificate(reason: "the key is neither P-256 nor Ed25519")
    }
    self.kind = kind
  }

  /// The key as PEM (PKCS #8).
  var pem: String { get throws { try privateKey.serializeAsPEM().pemString } }
}

extension Certificate.PublicKey {
  /// SHA-256 of the key's bytes in lower-case digits: says whether two certificates are for one key.
  var digest: String { Digest.sha256(subjectPublicKeyInfoBytes) }
}

extension Certificate {
  /// The certificate's bytes.
  var der: [UInt8] {
    get throws {
      var serializer = DER.Serializer()
      try serializer.serialize(self)
      return serializer.serializedBytes
    }
  }
}
