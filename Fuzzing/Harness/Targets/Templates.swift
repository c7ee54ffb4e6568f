import FedLoRAEngine

extension FuzzTarget {
  /// A chat template, and conversations written with it.
  static let chatTemplate = FuzzTarget(
    name: "chat-template",
    about: "a chat template, and conversations written with it",
    limits: FuzzLimits(memory: 8 << 20, memoryPerByte: 1024),
    dictionary: [
      "{{ ", " }}", "{% ", " %}", "{%- ", " -%}", "{#", "#}", "{% for m in messages %}", "{% endfor %}", "{% if ",
      "{% elif ",
      "{% else %}", "{% endif %}", "{% set x = ", "{% set ns.a = ", "namespace(a=1)", "{% macro f(a) %}",
      "{% endmacro %}",
      "f(1)", "messages", "messages[0]", "['role']", ".content", "[1:]", "[::-1]", " | trim", " | length",
      " | tojson(indent=2)",
      " | join(', ')", " | map(attribute='role') | list", " | selectattr('role', 'equalto', 'user')", " is defined",
      " is string",
      " not in ", " and ", " or ", " if ", " else ", " ~ ", " * ", " ** ", " // ", "range(9)", "loop.index0",
      "loop.last",
      ".split('a')", ".replace('a', 'b')", ".items()", ".strip()", "raise_exception('x')", "strftime_now('%Y')",
      "9223372036854775807", "1e308", "'\\u0041'", "{% break %}", "{% generation %}", "{% endset %}", "\u{301}",
      "\u{1F999}",
    ],
    seeds: { TemplateSamples.templates.map { Array($0.utf8) } }
  ) { bytes, _ in
    let text = String(decoding: bytes, as: UTF8.self)
    let template = try ChatTemplate(text: text, specialTokens: ["bos_token": "<s>", "eos_token": "</s>"])
    let limits = TemplateLimits(steps: 20_000, bytes: 1 << 20)
    var refusal: (any Error)?
    for messages in TemplateSamples.conversations {
      do {
        let written = try template.text(of: messages, limits: limits)
        let again = try FuzzFailure.onError("what was written once is refused") {
          try template.text(of: messages, limits: limits)
        }
        try FuzzFailure.unless(written == again, "a conversation is written in two ways")
        try FuzzFailure.unless(written.utf8.count <= limits.bytes, "a conversation is longer than its limit")
      } catch let error as TemplateError {
        refusal = error
      }
    }
    if let refusal { throw refusal }
  }
}

/// Templates that hold most of what is built, and conversations.
private enum TemplateSamples {
  static let conversations: [[ChatMessage]] = [
    [],
    [ChatMessage(role: "user", content: "Hello {{ 1 }}")],
    [
      ChatMessage(role: "system", content: " Be brief. "),
      ChatMessage(role: "user", content: "gr\u{F6}\u{DF}er \u{1F999}"),
      ChatMessage(role: "assistant", content: "<think>\nhm\n</think>\n\nok"), ChatMessage(role: "user", content: ""),
    ],
  ]

  static let templates = [
    """
    {% for message in messages %}
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}
    {% endfor %}
    {%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
    """,
    """
    {%- set ns = namespace(n=0, last=none) -%}
    {%- for m in messages[::-1] if m.role != 'system' %}{% set ns.n = ns.n + 1 %}{% set ns.last = m.content %}{% endfor -%}
    {{ bos_token ~ ns.n }} {{ ns.last | default('-', true) | trim | upper }} {# why #}
    {%- for a, b in {'x': [1, 2.5], 'y': {'z': none}}.items() %}{{ a }}={{ b | tojson(indent=1) }}{{ ',' if not loop.last }}
    {%- else %}none{% endfor %}
    """,
    """
    {% macro part(role, words='', end=eos_token) %}<{{ role | title }}>{{ words[:9] }}{{ end }}{% endmacro %}
    {% set body %}{% for m in messages %}{% generation %}{{ part(m.role, m.content.split('</think>')[-1].lstrip('\\n')) }}
    {%- endgeneration %}{% if loop.index0 % 2 == 1 and 'ok' in m.content %}{% continue %}{% endif %};{% endfor %}{% endset %}
    {{ body | replace(';', '-') | length }}{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('|') }}
    """,
    "{{ range(3) | list }}{{ (1, 'a' * 3, -7 // 2, 2 ** 5, 7 % -4, 1 < 2 <= 3 and not no is defined) }}{{ messages | tojson }}",
  ]
}
