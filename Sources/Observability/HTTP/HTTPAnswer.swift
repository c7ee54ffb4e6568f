/// What a `MetricsServer` answers.
public struct HTTPAnswer: Sendable, Equatable {
  /// The status code: 200, say.
  public let status: Int
  /// The media type.
  public let contentType: String
  /// The text.
  public let body: String

  /// An answer of any status.
  public init(status: Int, contentType: String = "text/plain; charset=utf-8", body: String) {
    self.status = status
    self.contentType = contentType
    self.body = body
  }

  static let badRequest = HTTPAnswer(status: 400, body: "this is not a request that can be answered\n")
  static let notFound = HTTPAnswer(status: 404, body: "there is nothing here\n")
  static let notAllowed = HTTPAnswer(status: 405, body: "only GET and HEAD are answered\n")
  static let tooSlow = HTTPAnswer(status: 408, body: "the request took too long\n")
  static let tooLong = HTTPAnswer(status: 431, body: "the request is too long\n")
}
