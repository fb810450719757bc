"""tests/fixtures/prompts: conversations in the original's formats, with the ids of the small tokenizers of
make_tokenizers.py, and chat templates with the output of transformers.

The templates were written for these tests. Each uses the constructs of published templates of its kind.
"""

import make_tokenizers
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template

from reference import prompters
from reference.fixture_files import FIXTURES, write_lines

OUT = FIXTURES / "prompts"

TOKENIZERS = {"pure": "llama", "llama2-chat": "llama", "vicuna": "llama", "llama3": "llama-bpe", "qwen2.5": "qwen2"}

CONVERSATIONS = [
    ["What is happening in this video?"],
    ["  <image>\nDescribe it. ", "A ball rolls.", "<video> Where to?\n", "To the left.", "Why?\n\nSay it in one word."],
    ["", "Yes", "x"],
    ["Is there a rabbit?", "", "Are you sure?"],
]
SYSTEMS = [None, "", "Answer with the letter."]

# File names and templates, in the style of published models.
TEMPLATES = {
    # Turns in tags, a default system prompt, line breaks inside texts.
    "chatml.jinja": """\
{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system
Be helpful.<|im_end|>
' }}{% endif %}{% for message in messages %}{{ ['<|im_start|>', message['role'], '
', message['content'], '<|im_end|>
'] | join }}{% endfor %}{{ '<|im_start|>assistant
' if add_generation_prompt }}""",
    # Alternating roles or an exception, the BOS before each turn, the system prompt inside the first.
    "instruct.jinja": """\
{% set rest = messages %}
{% set header = '' %}
{% if messages[0].role == 'system' %}
    {% set header = '<<SYS>>\\n' + messages[0]['content'].strip() + '\\n<</SYS>>\\n\\n' %}
    {% set rest = messages[1:] %}
{% endif %}
{% for turn in rest %}
    {% set expected = 'user' if loop.index0 % 2 == 0 else 'assistant' %}
    {% if turn['role'] != expected %}
        {{ raise_exception('Turn ' + loop.index|string + ' is not the ' + expected + "'s.") }}
    {% endif %}
    {% if expected == 'user' %}
        {{- bos_token + '[INST] ' + (header if loop.first else '') + turn['content'].strip() + ' [/INST]' }}
    {%- else %}
        {{- ' ' + turn['content'].strip() + ' ' + eos_token }}
    {% endif %}
{% endfor %}
""",
    # Dates, missing tools, and dashes that strip white space.
    "headers.jinja": """\
{{- bos_token -}}
{%- macro header(role) -%}
    {{- '<|start_header_id|>' ~ role ~ '<|end_header_id|>\\n\\n' -}}
{%- endmacro -%}
{#- A date may be given, and is made up if not. -#}
{%- if date is not defined %}
    {%- set date = "1 Jan 2025" %}
{%- endif %}
{%- set own = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | join('\\n') | trim %}

{{- header('system') }}
{%- if tools is not none and tools %}
    {{- "Tools:\\n" }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- "Today: " + date + "\\n\\n" + own + '<|eot_id|>' }}
{%- for message in messages if message['role'] in ('user', 'assistant') %}
    {%- if 'tool_calls' in message %}
        {{- raise_exception("No tools here!") }}
    {%- endif %}
    {{- header(message.role) + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- header('assistant') }}
{%- endif %}
""",
    # Further features of the language.
    "everything.jinja": """\
{%- macro say(role, text, end='\\n') -%}
{{ role|upper }}({{ text|length }}): {{ text|trim|replace('a', '4') }}{{ end }}
{%- endmacro -%}
{%- set ns = namespace(last=-1, seen=[]) -%}
{%- for m in messages if m.role != 'system' -%}
    {%- if m.role == "user" and not(m.content.startswith('<tool>') and m.content.endswith('</tool>')) -%}
        {%- set ns.last = loop.index0 -%}
    {%- endif -%}
    {%- set ns.seen = ns.seen + [m.role] -%}
{%- endfor -%}
{% generation %}last={{ ns.last }} {{ ns.seen|join(',') }} {{ ns.seen|unique|list|length }}{% endgeneration %}

{% for m in messages %}
{% if loop.index > 4 %}{% break %}{% endif %}
{% if m['role'] == 'system' %}{% continue %}{% endif %}
{{ say(m.role, m.content) -}}
{{ m.get('name', 'nobody') }} {{ m.content.split(' ')[0].lower().title() }} {{ m.content[:3] }}{{ m.content[-1:] }}
{%- for key, value in m.items() %} {{ key }}={{ value|tojson }}{% endfor %}

{% endfor %}
{{ 'é' ~ 3 ~ none ~ true }} {{ 7 // 2 }} {{ 2 ** 5 }} {{ -7 % 3 }} {{ (1, 2)|list|length }} {{ '%s-%02d' | format('a', 5) }} {{ 'yes' if messages else 'no' }} {{ undefined_thing }}|{{ messages|map(attribute='role')|list|last }} {{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ 'x' in 'xyz' }} {{ {'a': 1}['a'] }} {{ messages[-1].content.rstrip('?!').lstrip().count('e') }}
""",
}


# White space and Windows line breaks before and after the BOS.
TEMPLATES["crlf.jinja"] = """\
{% set role = 'user' %}

{{ bos_token }}{% for message in messages %}
[{{ message.role }}] {{ message.content }}
{% endfor %}
A:""".replace("\n", "\r\n")


def formats(families):
    for format, tokenizer in TOKENIZERS.items():
        family = families[tokenizer]
        for system in SYSTEMS:
            if format == "pure" and system:
                continue
            for messages in CONVERSATIONS:
                texts = list(prompters.turns(format, messages, system))
                # Llama-2 chat starts each turn of the user with `<s>`, as the original's prompt builder and Meta do.
                begins = lambda index: index == 0 or (format == "llama2-chat" and index % 2 == 0)
                ids = [family.ids(text, begin=begins(index)) for index, text in enumerate(texts)]
                yield {
                    "format": format, "tokenizer": tokenizer, "system": system, "messages": messages,
                    "turns": texts, "ids": sum(ids, []),
                }


def templates(families):
    for name, text in TEMPLATES.items():
        (OUT / name).write_text(text, newline="")
        tokenizer = "llama-bpe" if name == "headers.jinja" else "llama"
        family = families[tokenizer]
        bos, eos = family.specials[0], family.specials[-1]
        for system in (None, "Answer  with the letter. "):
            for messages in CONVERSATIONS:
                roles = [{"role": "system", "content": system}] if system else []
                roles += [
                    {"role": "assistant" if index % 2 else "user", "content": message}
                    for index, message in enumerate(messages)
                ]

                def render(roles):
                    return _compile_jinja_template(text).render(
                        messages=roles, tools=None, documents=None, add_generation_prompt=True, bos_token=bos,
                        eos_token=eos,
                    )

                # The text of the ids: cleaned, and with one BOS at the start.
                clean = [{**role, "content": role["content"].replace("<image>", "").strip()} for role in roles]
                rendered = render(clean)
                # If white space precedes the BOS, the ids are those of transformers.
                ids = family.ids("", begin=True) + family.ids(rendered.removeprefix(bos))
                if rendered.lstrip().startswith(bos) and not rendered.startswith(bos):
                    ids = family.ids(rendered)
                yield {
                    "template": name, "tokenizer": tokenizer, "bos": bos, "eos": eos, "messages": roles,
                    "rendered": render(roles), "ids": ids,
                }


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    families = make_tokenizers.families()
    write_lines(OUT / "formats.json", list(formats(families)))
    write_lines(OUT / "templates.json", list(templates(families)))
    try:
        odd = [{"role": "assistant", "content": "Hi"}]
        _compile_jinja_template(TEMPLATES["instruct.jinja"]).render(messages=odd, bos_token="", eos_token="")
    except TemplateError:
        return
    raise AssertionError("the exception is not raised")


if __name__ == "__main__":
    main()
