"""Writes Tests/EngineTests/Fixtures/templates.json: chat templates and pieces of Jinja, and what transformers makes of them.

    python3 Tests/Oracles/make_template_fixtures.py

The templates are our own, in the formats of well-known models. Every template meets every conversation; where transformers' Jinja
raises, `error` is what.

    families    name, template, tokens, cases: number of the conversation, values, output or error
    snippets    template, values, output or error
"""

import json
import pathlib

from transformers.utils.chat_template_utils import _compile_jinja_template

OUT = pathlib.Path(__file__).resolve().parents[1] / "EngineTests" / "Fixtures" / "templates.json"

FAMILIES = {
    "chatml": """{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{% endif %}
""",
    "smollm": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful assistant.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}""",
    "llama2": """{% if messages and messages[0].role == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0].content %}
{% else %}{% set rest = messages %}{% set system = none %}{% endif %}
{%- for message in rest -%}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{- raise_exception('roles have to alternate: user, assistant, user, ...') -}}
  {%- endif -%}
  {%- set content = message.content | trim -%}
  {%- if loop.first and system is not none -%}
    {%- set content = '<<SYS>>\\n' ~ system ~ '\\n<</SYS>>\\n\\n' ~ content -%}
  {%- endif -%}
  {%- if message.role == 'user' -%}
    {{- bos_token + '[INST] ' + content + ' [/INST]' -}}
  {%- elif message.role == 'assistant' -%}
    {{- ' ' ~ content ~ ' ' ~ eos_token -}}
  {%- endif -%}
{%- endfor -%}""",
    "llama3": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- The system message, if there is one, comes first. -#}
{%- if messages | length > 0 and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one tool call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or (message.content is iterable and message.content is not string) %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("the conversation has to alternate") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST]" + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST]" + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("there are only user and assistant here, with a system message first") }}
    {%- endif %}
{%- endfor %}""",
    "qwen2": """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content']}}{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    "qwen3": """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "gemma": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('there is no system role') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles have to alternate') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}""",
    "phi3": """{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'user' %}{{'<|user|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>
' + message['content'] + '<|end|>
'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}""",
    "zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "marked": """{%- macro part(role, words='', end=eos_token) -%}
<{{ role | upper }}>{{ words }}{{ end }}
{%- endmacro -%}
{% for m in messages if m.role != 'system' %}
  {%- if m.role == 'assistant' -%}
    {% generation %}{{ part('bot', m.content | default('-', true)) }}{% endgeneration %}
  {%- else -%}
    {{ part(m.role, words=m['content'], end='') }}
  {%- endif %}
{% else %}nobody spoke{% endfor %}""",
}

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def say(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS = [
    say(("user", "Hello")),
    say(("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi!"), ("user", "  How are you? \n")),
    say(("user", "größer — 日本語 🦙 \u0301e"), ("assistant", "ok"), ("user", "\n\nthanks\t")),
    say(("user", "a"), ("user", "b")),
    say(("assistant", "I begin."), ("user", "Well")),
    say(("system", ""), ("user", "")),
    say(("system", "  only a system message \n ")),
    say(("user", "{{ 7 * 7 }} {% if %} <|im_end|> </s> 'quotes' \"double\" \\n")),
    say(("user", "Solve."), ("assistant", "<think>\n2 + 2\n</think>\n\n4"), ("user", "And?"), ("assistant", "<think>\nhm\n</think>\n\nDone.")),
    [{"role": "user", "content": "Weather?"},
     {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {
         "name": "weather", "arguments": {"place": "Zürich", "days": 2, "exact": True, "ratio": 0.5, "none": None, "list": [1, "a\n\"b\""]}}}]},
     {"role": "tool", "content": "sunny"}, {"role": "tool", "content": "25"}, {"role": "assistant", "content": "It is sunny."}],
    [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "\nwhy\n"}],
    [{"role": "user", "content": "q"}, {"role": "ipython", "content": {"a": [1, 2.5, {}], "b": []}}],
    [{"role": "user", "content": None}],
    [{"role": "user"}],
    [],
]

VALUES = {
    "n": 7, "zero": 0, "x": 2.5, "yes": True, "no": False, "nothing": None, "text": "  Hello, wörld\t", "empty": "",
    "list": [3, 1, 2], "names": ["b", "A", "c"], "map": {"b": 1, "a": "x", "items": 9}, "nested": [{"k": {"v": 1}}, {"k": {"v": 2}}, {"k": {}}],
    "people": [{"name": "Ann", "age": 30, "in": True}, {"name": "Bob", "age": 25, "in": False}, {"name": "Cy", "age": 35}],
    "uni": "ÀÉ ß ŉ ǆ 日本 🦙é", "lines": "one\n two\n\nthree\n", "deep": [[1, [2, [3]]], []],
}

SNIPPETS = """
a {{ n }} b
{{ n + 1 }}{{ n - 9 }}{{ n * 2 }}{{ n / 2 }}{{ n // 2 }}{{ n % 4 }}{{ n ** 2 }}{{ 2 ** 0.5 }}
{{ -n // 2 }} {{ -n % 4 }} {{ n % -4 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1e3 }} {{ 1.0 }} {{ 2e20 }} {{ 0.1 + 0.2 }} {{ 1.5e-7 }}
{{ -n ** 2 }} {{ 2 ** 3 ** 2 }} {{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 10 - 4 - 3 }} {{ n ~ x ~ nothing ~ yes }}
{{ yes + 1 }} {{ yes == 1 }} {{ 1 == 1.0 }} {{ 'a' == 'b' }} {{ [1, 2] == [1, 2] }} {{ (1,) == [1] }} {{ {'a': 1} == {'a': 1.0} }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ 'Z' < 'a' }} {{ 'é' > 'z' }} {{ 3 >= 3 }} {{ 3 <= 2 }} {{ not 1 == 2 }}
{{ yes and no }} {{ yes or no }} {{ empty or 'x' }} {{ n and 'y' }} {{ not yes }} {{ not not 0 }} {{ none or missing or 3 }}
{{ 'a' if yes }}|{{ 'a' if no }}|{{ 'a' if no else 'b' }}|{{ 1 if no else 2 if no else 3 }}
{{ missing }}|{{ missing is defined }}|{{ map.zzz }}|{{ list[99] }}|{{ text[99] }}|{{ missing == other }}|{{ 'a' in missing }}|{{ missing|length }}
{{ missing.attribute }}
{{ missing['item'] }}
{{ missing + 1 }}
{{ 1 + missing }}
{{ missing() }}
{{ -missing }}
{{ missing < 1 }}
{{ missing ~ 'x' }}
{% for i in missing %}x{% else %}none{% endfor %}
{{ nothing.attribute }}|{{ nothing['x'] }}
{{ nothing + 1 }}
{{ n.attribute }}|{{ n[0] }}
{% for i in n %}{% endfor %}
{% for i in nothing %}{% endfor %}
{{ text }}|{{ text|trim }}|{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip() }}|{{ text.strip(' Ho\t') }}|{{ text|trim('\t') }}
{{ text[2] }}{{ text[-2] }}{{ text[2:5] }}{{ text[:3] }}{{ text[-4:] }}{{ text[::-1] }}{{ text[::2] }}{{ text[5:1:-2] }}{{ uni[1:4] }}
{{ list[0] }}{{ list[-1] }}{{ list[1:] }}{{ list[::-1] }}{{ list[:] }}{{ list[5:] }}{{ list[-99:99] }}{{ list[99::-1] }}{{ list[0:0] }}
{{ text[::0] }}
{{ list.0 }}{{ people.1.name }}{{ people[0]['age'] }}
{{ map.b }} {{ map['a'] }} {{ map.items()|list }} {{ map['items'] }} {{ map.keys()|list }} {{ map.values()|list }} {{ map.get('q', 5) }} {{ map.get('q') }} {{ map.get('b') }}
{% for k, v in map.items() %}{{ k }}={{ v }};{% endfor %}{% for k in map %}{{ k }}{% endfor %}{% for p in map|items %}{{ p[0] }}{% endfor %}
{{ 'b' in map }} {{ 'z' in map }} {{ 3 in list }} {{ 9 not in list }} {{ 'ell' in text }} {{ '' in 'a' }} {{ 'a' in 'bab' }} {{ 1 in map }}
{{ 1 in 'a1' }}
{{ 'a' in n }}
{{ uni|upper }} {{ uni|lower }} {{ uni|length }} {{ uni.upper() }} {{ uni|reverse }} {{ 'ǆabc'|capitalize }} {{ 'hELLO wORLD-foo (bar)'|title }} {{ "they're bill's".title() }}
{{ 'hello'.capitalize() }} {{ 'x'.isdigit() }} {{ '12'.isdigit() }} {{ ' '.isspace() }} {{ 'aXbXc'.split('X') }} {{ 'aXbXc'.split('X', 1) }} {{ ' a  b '.split() }} {{ ' a  b c '.split(none, 1) }} {{ 'abc'.split('X') }}
{{ ''.split(',') }} {{ ''.split() }} {{ 'a,b,'.split(',') }}
{{ 'a'.split('') }}
{{ 'abcabc'.replace('b', 'XX') }} {{ 'abcabc'.replace('b', 'X', 1) }} {{ 'abc'.replace('', '-') }} {{ 'aaaa'|replace('aa', 'b') }} {{ n|replace('7', 'x') }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.startswith(('x', 'y')) }} {{ 'abc'.endswith('abcd') }} {{ 'wörld'.find('r') }} {{ 'a'.find('z') }} {{ 'aaa'.count('a') }} {{ 'banana'.count('ana') }}
{{ 'a-b'.removeprefix('a') }} {{ 'a-b'.removesuffix('b') }} {{ 'a-b'.removeprefix('x') }} {{ lines.splitlines() }}
{{ ','.join(names) }} {{ names|join }} {{ names|join('-') }} {{ list|join(', ') }} {{ people|join(',', attribute='name') }}
{{ ','.join(list) }}
{{ list|first }} {{ list|last }} {{ []|first }} {{ 'abc'|first }} {{ list|length }} {{ map|length }} {{ list|count }} {{ list|reverse|list }} {{ 'abc'|list }} {{ range(3)|list }} {{ range(5, 1, -2)|list }} {{ range(0)|list }}
{{ n|length }}
{{ missing|default('d') }} {{ empty|default('d') }} {{ empty|default('d', true) }} {{ nothing|d('x') }} {{ nothing|default('x', boolean=true) }} {{ missing|default }}
{{ '42'|int }} {{ ' 4 '|int }} {{ 'x'|int }} {{ 'x'|int(9) }} {{ 3.9|int }} {{ -3.9|int }} {{ '3.7'|int }} {{ '3.5'|float }} {{ 'x'|float }} {{ 3|float }} {{ -3|abs }} {{ (-3.5)|abs }} {{ yes|int }}
{{ n|string + 'x' }} {{ nothing|string }} {{ list|string }}
{{ map|tojson }} {{ list|tojson }} {{ text|tojson }} {{ nothing|tojson }} {{ yes|tojson }} {{ x|tojson }} {{ nested|tojson }} {{ uni|tojson }} {{ '<&>'|tojson }} {{ (1, 2)|tojson }} {{ []|tojson }} {{ {}|tojson }}
{{ map|tojson(indent=2) }} {{ deep|tojson(indent=4) }} {{ map|tojson(sort_keys=true) }} {{ uni|tojson(ensure_ascii=true) }} {{ list|tojson(separators=(',', ':')) }} {{ map|tojson(separators=(',', ':'), indent=1) }}
{{ missing|tojson }}
{{ '\\u0001\\x7f\\u2028\\\\'|tojson }}
{{ lines|indent }} {{ lines|indent(2, true) }} {{ lines|indent(2, first=true, blank=true) }} {{ 'a\\nb'|indent('> ') }}
{{ people|map(attribute='name')|list }} {{ people|map(attribute='in')|list }} {{ names|map('upper')|list }} {{ names|map('default', 'x')|join }} {{ nested|map(attribute='k.v')|list }}
{{ people|selectattr('in')|map(attribute='name')|list }} {{ people|selectattr('age', 'gt', 26)|map(attribute='name')|list }} {{ people|rejectattr('in')|map(attribute='name')|list }} {{ people|selectattr('in', 'defined')|list|length }} {{ list|select('odd')|list }} {{ list|reject('odd')|list }} {{ list|select|list }} {{ people|selectattr('name', 'equalto', 'Bob')|list }}
{{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is divisibleby(2) }} {{ n is number }} {{ x is float }} {{ n is integer }} {{ yes is integer }} {{ yes is boolean }} {{ yes is true }} {{ 1 is true }} {{ no is false }} {{ nothing is none }} {{ missing is undefined }} {{ text is string }} {{ map is mapping }} {{ list is sequence }} {{ map is sequence }} {{ text is iterable }} {{ n is iterable }} {{ n is not string }} {{ not n is string }} {{ 'abc' is lower }} {{ 'ABC' is upper }} {{ '1' is lower }} {{ n is in [7, 8] }} {{ n is eq 7 }} {{ n is ne 7 }} {{ n is gt 3 }} {{ n is le 3 }} {{ range is callable }}
{{ text is string and text is defined and n is odd or missing is defined }}
{{ 'a' is string is string }}
{% if n > 5 %}big{% elif n > 3 %}mid{% else %}small{% endif %}{% if no %}x{% endif %}{% if not list %}x{% else %}y{% endif %}
{% for i in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}{{ loop.cycle('a', 'b') }}|{% endfor %}
{% for i in list if i > 1 %}{{ i }}{{ loop.index }}{{ loop.length }}{% else %}no{% endfor %}{% for i in list if i > 9 %}{{ i }}{% else %}no{% endfor %}
{% for i in [1, 2, 3, 4] %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ c }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% for i in [1, 2] %}{% for j in 'ab' %}{{ loop.index }}{{ j }}{% endfor %}{{ loop.index }}{% endfor %}{{ loop is defined }}
{% set y = 1 %}{% for i in list %}{% set y = i %}{{ y }}{% endfor %}{{ y }}{% if yes %}{% set y = 9 %}{% endif %}{{ y }}
{% set ns = namespace(a=1, found=false) %}{% for i in list %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.missing }}{% set ns.b = 2 %}{{ ns.b }}{{ ns['a'] }}
{% set ns = namespace({'q': 4}, r=5) %}{{ ns.q }}{{ ns.r }}
{% set map.b = 2 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set d %}in {{ n }}{% endset %}[{{ d }}]{% set e | upper | trim %} up {% endset %}[{{ e }}]
{% macro f(a, b=2, c='x') %}({{ a }}{{ b }}{{ c }}{{ n }}{{ zz }}){% endmacro %}{% set zz = 5 %}{{ f(1) }}{{ f(1, 3) }}{{ f(1, c='y') }}{{ f() }}{{ f(a=4)|upper }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}
{% macro f(a) %}{% if a > 0 %}{{ a }}{{ f(a - 1) }}{% endif %}{% endmacro %}{{ f(3) }}
{% for i in [1, 2] %}{% macro g() %}m{{ n }}{% endmacro %}{{ g() }}{% endfor %}
{{ dict(a=1, b=2) }} {{ dict({'x': 1}, y=2) }} {{ {'a': 1, 'a': 2} }} {{ [] }} {{ () }} {{ (1,) }} {{ (1, 2) }} {{ [1, 'a', none, true, 1.5, "it's", 'q"'] }} {{ {'k': [1, {'z': 'é'}]} }} {{ ['a\\n\\t\\\\', '\\x00', 'both \\' and "'] }}
{{ 'a' 'b' "c" }} {{ 'it\\'s' }} {{ "tab\\there" }} {{ 'uni \\u00e9 \\U0001F999 \\x41' }} {{ 'keep \\d \\- this' }}
{{ {'a': {'b': 1}}.a.b }}{{ {'a': {'b': {}}} }} {{ [1, 2][0] }} {{ (1 if yes else 2) }} {{ ('a' ~ 'b')|upper }} {{ 'a' ~ 'b'|upper }} {{ 'x' + 'y'|upper }} {{ -1|abs }} {{ 'a' * 3 }} {{ 3 * 'ab' }} {{ 'a' * -1 }} {{ [1] + [2] }}
{{ [1] + (2,) }}
{{ 'a' + 1 }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ raise_exception('stop') }}
{% if no %}{{ raise_exception('stop') }}{% endif %}fine
{{ strftime_now('%Y-%m') }}
a  {{- n -}}  b  {{ n -}}
  c {#- gone -#}  d {# kept spaces #} e
	 {% set q = 1 %} tail {% set q = 1 %}
{%- for i in list -%} {{ i }} , {%- endfor %} end
text {% if yes %} {% endif %}
{{ n }}{% if yes %}x{% endif %}
{% generation %} kept {% set inner = 1 %}{% endgeneration %}{{ inner is defined }}
{{ list.append(4) }}
{{ map.update({'z': 1}) }}
{{ map.__class__ }}|{{ ''.__class__.__mro__ }}
{{ n, x }}
{{ [1, 2, 3,] }} {{ {'a': 1,} }} {{ range(1,) | list }}
{% set x %}{% for i in [1, 2] %}{{ i }}{% endfor %}{% endset %}{{ x|length }}
{{ (n if n is defined else 0) + (missing if missing is defined else 5) }}
{{ messages }}{{ tools is none }}{{ documents is defined }}
{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}
{{ list.index(1) }}{{ list.count(3) }}{{ (1, 2).count(2) }}
{{ 10000000000 * 10 }} {{ 255 }}
{{ 'ß'.upper() }} {{ 'İ'|lower|length }} {{ '\\x1c a \\x85'.strip() }} {{ '\\u3000a\\u200b'|trim|length }}
{% set a = 'x' if no else 'y' %}{{ a }} {% for i in (list if yes else []) %}{{ i }}{% endfor %}
{{ people[0].name.upper()[0:2] }} {{ people|length - 1 }} {{ (people|length) - 1 }} {{ people|map(attribute='age')|list|first + 1 }}
{{ nested[0].k.v + nested[1]['k']['v'] }} {{ nested[2].k.v is defined }} {{ nested|selectattr('k.v', 'defined')|list|length }}
""".strip("\n")

# Of more than one line, and what is no template.
EXTRA = [
    "{{ \"new\nline\" }}", "{{ 'a\\\nb' }}",
    "  {% if yes %}\n    a\n  {% endif %}\nb", "x\n  {%- if yes -%}\n    a\n  {%- endif -%}\nb", "x\n  {%+ if yes +%}\n    a\n  {%+ endif +%}\nb",
    "a\n\t {% set q = 1 %} tail\n", "a\r\n{% if yes %}\r\nb\r\n{% endif %}\r\n", "{{ n }}\n", "{{ n }}\n\n", "\n\n{{ n }}", "{{ 'a\nb' }}",
    "{% if yes %}\n{% if yes %}\n x\n{% endif %}\n{% endif %}\n", "{% for i in list %}\n{{ i }}\n{% endfor %}\n", "a {# c #}\nb\n  {# c #}\n  d",
    "{#- a -#}  x", "{##}x", "{#-#}  x", "x {{+ n }}", "{%- set q = 1 -%}\n\n x",
    "{% include 'x' %}", "{{ n | nope }}", "{{ n is nope }}", "{% nope %}", "{{ n", "{% if yes %}", "{{ 'a }}", "{{ n } }", "{{ }}", "{% endif %}",
    "{{ n + }}", "{{ (n }}", "{{ n) }}", "{{ [1 2] }}", "{% for %}{% endfor %}", "{% for i list %}{% endfor %}", "{% set %}", "{% set 1 = 2 %}",
    "{% set true = 2 %}", "{{ a.b. }}", "{{ a..b }}", "{{ n ? 1 : 2 }}", "{{ n && 1 }}", "{# open", "{% if yes %}{% endfor %}", "{% break %}",
    "{{ f(a=1, 2) }}", "{{ range() }}", "{{ 5() }}", "{{ 'x'() }}", "{{ strftime_now('%d %b %Y') }}",
]


def render(template, values):
    try:
        compiled = _compile_jinja_template(template)
        return {"output": compiled.render(strftime_now=lambda form: {"%d %b %Y": "04 Jul 2025", "%Y-%m": "2025-07"}[form], **values)}
    except Exception as error:  # noqa: BLE001: whatever Jinja or Python raise is a refusal
        return {"error": type(error).__name__}


def main():
    families = []
    for name, template in FAMILIES.items():
        cases = []
        for number, messages in enumerate(CONVERSATIONS):
            for extra in [{"add_generation_prompt": True}, {"add_generation_prompt": False}, {"add_generation_prompt": True, "enable_thinking": False}]:
                values = {"messages": messages, "tools": None, "documents": None, **TOKENS, **extra}
                cases.append({"conversation": number, "values": extra, **render(template, values)})
        families.append({"name": name, "template": template, "tokens": TOKENS, "cases": cases})
    snippets = []
    for template in SNIPPETS.split("\n") + EXTRA:
        values = {"messages": [], "tools": None, "documents": None, **VALUES}
        snippets.append({"template": template, **render(template, values)})
    result = {"conversations": CONVERSATIONS, "families": families, "values": VALUES, "snippets": snippets}
    OUT.write_text(json.dumps(result, ensure_ascii=False) + "\n")
    print(len(snippets), "snippets,", sum("error" in s for s in snippets), "refused;", sum(len(f["cases"]) for f in families), "cases,",
          sum("error" in c for f in families for c in f["cases"]), "refused")


if __name__ == "__main__":
    main()
