"""tests/fixtures/prompts/jinja.json: pieces of templates, and templates that use the features of published ones, with
the output of transformers, or a note that it refuses them.
"""

import json

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template

from reference.fixture_files import FIXTURES, write_lines

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather <now> & \"then\".",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where"},
                    "days": {"type": ["integer", "null"], "items": {"type": "integer"}, "enum": [1, 2.5, None, True]},
                },
                "required": ["city"],
            },
        },
    }
]

VARIABLES = {
    "messages": [
        {"role": "system", "content": "  Be kind. "},
        {"role": "user", "content": "Hé, what's \"up\"?\nSay it."},
        {"role": "assistant", "content": "<think>hm</think>\n\nNothing."},
        {"role": "user", "content": "Ok"},
    ],
    "tools": TOOLS,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "add_generation_prompt": True,
    "none_here": None,
    "numbers": [3, 1, 2.5, -7, 10],
    "words": ["beta", "Alpha", "gamma", "alpha"],
    "nested": {"b": [1, [2, {"c": None}]], "a": {"x": True, "y": 1e20}, "items": 5},
}

# These are put between braces.
EXPRESSIONS = r"""
1 + 2 * 3 - 4 // 3, 4 // 3 ~ 'x', 1 + 2 ~ 3 if false else 1 ~ 2
7 / 2, -7 // 2, -7 % 3, 7 % -3, 2 ** 10, 2 ** -1, 7.5 // 2, -7.5 % 2, 1e16, 1e15, 0.0001, 0.00001, 1.0, -0.0, 1e300 * 1e10
true, false, none, True + 1, 3 == 3.0, true == 1, 'a' == 'a', [1, 2] == [1, 2], (1,) == [1], {'a': 1} == {'a': 1.0}
1 < 2 < 3, 1 < 3 < 2, 'a' < 'b', [1, 2] < [1, 3], 'é' > 'z', not 1 == 2, not not 1
'a' in 'cat', 1 in [1, 2], 3 not in [1], 'b' in nested, undefined_thing in [1], 'x' in undefined_thing
undefined_thing == another, undefined_thing is defined, messages is defined, undefined_thing|default('d'), ''|default('e', true)
undefined_thing ~ 'x', undefined_thing|length, undefined_thing|list, undefined_thing|trim, undefined_thing|join(',')
'yes' if 0 else 'no', 'only' if 0, ('a' if 1 else 'b') ~ 'c', 1 if 0 else 2 if 0 else 3
0 or '' or 'x', 1 and 'y', none or false, [] and 1
'a' 'b' "c", 'it\'s', "tab\there", '\\n', '\x41\u00e9\U0001F600', '\d', 'line\
break', '\101'
[1, 'a', none, true, 1.5, [2], (3,), {'k': 'v'}]|string, 'a\'b'|list, ["it's", 'q"q', "b'\"", '\n\t\\']|string
{'a': 1, 2: 'b', none: [], true: {}}, {}, [], (), (1,), (1, 2)
[1, 2, 3][0], [1, 2, 3][-1], [1, 2, 3][5] is defined, 'abc'[1], 'abc'[-1], 'abc'[7] is defined, messages[1]['role'], messages[1].role
[1, 2, 3, 4][1:], [1, 2, 3, 4][:-1], [1, 2, 3, 4][::2], [1, 2, 3, 4][::-1], [1, 2, 3, 4][3:0:-1], 'héllo'[1:3], 'hello'[::-1], 'hello'[-3:], 'abc'[5:], 'abc'[-9:2]
[1] + [2], (1,) + (2,), [0] * 3, 'ab' * 3, 3 * 'x', 'x' * -1
'%s and %d and %5.2f and %-4s| and %05d %x %%' % ('a', 5, 3.14159, 'b', 42, 255), '%s' % 'one', '%r' % 'q', '%s' % [1], '%3s|%-3s|%+d' % (1, 2, 3)
'{} {1}'.format('a') if false else '{0} {1} {0}'.format('a', 'b'), '{x}-{y}'.format(x=1, y='z'), '{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd'), '{:05d} {:.2f} {{}}'.format(42, 3.14159), '{:5}|{:5}'.format('a', 1)
'Hello World'.upper(), 'Hello'.lower(), 'hello wORLD'.title(), 'hELLO'.capitalize(), 'aB'.swapcase(), 'they\'re bill-gates'.title()
'  x '.strip(), '  x '.lstrip() ~ '|', '  x '.rstrip() ~ '|', 'xxaxx'.strip('x'), 'abcab'.rstrip('ab'), 'abcab'.lstrip('ba')
'a,b,c'.split(','), 'a,b,c'.split(',', 1), ' a  b '.split(), ' a  b  c '.split(none, 1), 'a,b,c'.rsplit(',', 1), 'a  b c '.rsplit(none, 1), 'a\nb\r\nc\n'.splitlines(), ''.split(), ''.split(','), 'x'.partition('y'), 'a=b=c'.partition('='), 'a=b=c'.rpartition('=')
'aXbXc'.replace('X', '-'), 'aXbXc'.replace('X', '-', 1), 'ab'.replace('', '.'), 'abc'|replace('b', 'B')
'hello'.startswith('he'), 'hello'.startswith(('x', 'h')), 'hello'.endswith('lo'), 'hello'.find('l'), 'hello'.rfind('l'), 'hello'.find('z'), 'héllo'.index('l'), 'hello'.count('l'), ','.join(['a', 'b'])
'12'.isdigit(), 'a1'.isalnum(), 'ab'.isalpha(), ' '.isspace(), 'AB'.isupper(), 'ab'.islower(), ''.isdigit(), '-1'.isdigit(), 'prefix-x'.removeprefix('prefix-'), 'x.py'.removesuffix('.py')
nested.get('a'), nested.get('zz'), nested.get('zz', 3), nested.items() is defined, nested['items'], nested.keys()|list, nested.values()|list|length, nested.items()|list|first
nested|items|list|length, nested|dictsort, {'b': 1, 'A': 2}|dictsort, {'b': 1, 'a': 2}|dictsort(by='value'), {'b': 1, 'a': 2}|dictsort(reverse=true)
nested|tojson, tools|tojson, 'é<&>"\\\n\u0001'|tojson, 1.0|tojson, 1e20|tojson, none|tojson, [1, {}, [], {'a': []}]|tojson(indent=2), {'b': 1, 'a': 2}|tojson(sort_keys=true), 'é'|tojson(ensure_ascii=true), [1, 2]|tojson(separators=(',', ':')), {1: 2, none: 3, true: 4}|tojson
tools|tojson(indent=4)
numbers|sort, numbers|sort(reverse=true), words|sort, words|sort(case_sensitive=true), messages|sort(attribute='role')|map(attribute='role')|list
words|unique|list, words|unique(case_sensitive=true)|list, numbers|min, numbers|max, words|min, words|max, numbers|sum, messages|map(attribute='content')|map('length')|sum
messages|map(attribute='role')|join(', '), words|join, words|join('-'), messages|join('/', attribute='role'), words|map('upper')|list, numbers|map('string')|list, ['1', '2']|map('int')|sum, [{}]|map(attribute='x', default='d')|list
messages|selectattr('role', 'equalto', 'user')|list|length, messages|rejectattr('role', 'eq', 'user')|map(attribute='role')|list, numbers|select('odd')|list if false else [1, 2, 3]|select('odd')|list, [0, 1, '', 'a', none]|select|list, [0, 1]|reject|list, messages|selectattr('role', 'in', ['user', 'system'])|list|length, messages|selectattr('name')|list, [1, 5, 3]|select('gt', 2)|list
messages|first is mapping, messages|last is mapping, []|first is defined, 'abc'|first, 'abc'|last, 'abc'|reverse, [1, 2]|reverse|list, 'abc'|list, nested|list, 'abc'|length, [1, [2]]|length, nested|count
[1, 2, 3, 4, 5]|batch(2)|list, [1, 2, 3]|batch(2, 'x')|list, [1, 2, 3, 4, 5]|slice(2)|list, [1, 2, 3]|slice(2, 'x')|list
messages|groupby('role')|map('first')|list
'  a b '|trim, 'xax'|trim('x'), 'hello world-foo (bar)'|title, 'HELLO world'|capitalize, 'aé'|upper, 'AÉ'|lower, 'a b  c'|wordcount
'<a href="x">&\'</a>'|e
'a\nb\n\nc'|indent, 'a\nb'|indent(2, true), 'a\n\nb'|indent(2, blank=true), 'a\nb'|indent('> '), 'word ' * 20|truncate(20) if false else ('word ' * 20)|truncate(20), ('word ' * 20)|truncate(20, true, '…'), 'short'|truncate(4)
'12'|int, '1.9'|int, 'x'|int, 'x'|int(5), 3.9|int, -3.9|int, '0x1f'|int(base=16), 'ff'|int(0, 16), '1.5'|float, 'x'|float, 3|float, true|int
3.14159|round(2), 2.5|round, 3.5|round, 2.1|round(method='ceil'), 2.9|round(method='floor'), 1234.5|round(-2), -7|abs, 7.5|abs, 1|string ~ 'x'
1 is integer, 1.0 is float, 1 is number, true is boolean, true is integer, 'a' is string, [] is sequence, {} is mapping, none is none, [] is iterable, 'a' is iterable, 1 is iterable, 1 is not none, 'x' is undefined
3 is odd, 4 is even, 6 is divisibleby 3, 6 is divisibleby(4), 'a' is in ['a'], 3 is eq 3, 3 is gt(2), 3 is lessthan 4, 'abc' is lower, 'ABC' is upper, none is sameas none, 1 is true, true is true, messages is sequence and nested is not sequence
-numbers[0], +3, -3|abs, - 3 ** 2, 2 ** 3 ** 2, 1 - 1 - 1, 100 // 7 // 2, 2 * 3 % 4, 'a' ~ 1 * 2
range(3)|list, range(1, 10, 3)|list, range(3, 0, -1)|list, range(0)|list, dict(a=1, b='x'), loop is defined, namespace is defined, range is callable
1_000, 0x1f, 0b11, 0o17, 1.5e3, 1e-7, 123456789012345678
words[0][0]|upper ~ words[1][-1:], messages[1]['content'].split('\n')[0].strip().lower().title()[:4], (messages|first).role, ('a', 'b')[1], {'k': {'l': 'm'}}['k'].l, {'a': 1}.a, [[1]].0.0
'%s' | format('x'), '%s-%02d' | format('a', 5), 'abc' is string and 'b' in 'abc' or false, (1, 2) | list, [1, 2, ] , {'a': 1, }, 'a' if 'a' is defined and 1 == 1 else 'b'
messages[0].content|trim|length, messages|length > 2 and messages[0].role == 'system', (messages|selectattr('role', 'equalto', 'tool')) and 'generators are true'
"""

REFUSED = r"""
undefined_thing.attribute
undefined_thing + 'x'
messages[0].nothing.more
1 + 'x'
'x' + 1
none.strip()
none + 1
[1] + (2,)
1 < 'a'
1 / 0
1 % 0
nothing()
messages[0]()
'x'|nofilter
1 is notest
raise_exception('No!')
'a'.nomethod()
messages.append(1)
nested.update({'a': 1})
range(1000000)
'%s %s' % ('a',)
{[1]: 2}
'abc' in 5
5|length
none|length
[1, 'a']|sort
undefined_thing < 3
'a' * 'b'
(
1 +
'a
foo(
[1, 2
{'a': }
1 2
a.1b.
'a' 5
"""

# Whole templates: white space, scopes, and constructs of published templates.
TEMPLATES = [
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "  {% if true %}  \n  b  {{ 1 }}\n  {% endif %}\n\n\nc\n\n",
    "x {%- if true %} y {%- endif -%} z {{- 1 -}} w {{ 2 }} \n",
    "a {#- gone -#} b\n  {# alone #}\nc {# inside #} d\n{#+ kept +#}\ne",
    "  {%+ if true %}x{%+ endif +%}\n y\n{{ 1 }}\n{{ 2 -}}\n z",
    "{% raw %}{{ not }} {% read %}{% endraw %}\n{% raw -%}  a  {%- endraw %} b",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\n{{ 'c\r\nd' }}\re\r\n",
    "\n\n{{ bos_token }}\n",
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.cycle('a', 'b') }} {{ m.role }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined }}>{{ loop.nextitem.role if loop.nextitem is defined }};{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}{{ m.content }}{% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}{% for x in undefined_thing %}{% endfor %}",
    "{% for k, v in nested.items() %}{{ k }}={{ v }};{% endfor %}{% for k in nested %}{{ k }}{% endfor %}{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for c in 'hé' %}{{ c }}.{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }};{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set ns = namespace(n=0, l=[]) %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.n }}{{ ns.l }}{{ ns.missing is defined }}",
    "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% macro f(a, b='B', c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(b=3, a=4) }}{{ f(1, c=5) }}{{ f() }}{{ f('x')|upper }}{{ f is callable }}",
    "{% macro tree(n) %}({{ n }}{% if n > 0 %}{{ tree(n - 1) }}{% endif %}){% endmacro %}{{ tree(5) }}{% set late = 'L' %}{% macro g() %}{{ late }}{{ x is defined }}{% endmacro %}{% set late = 'M' %}{% for x in [1] %}{{ g() }}{% endfor %}",
    "{% macro box(t) %}<{{ t }}:{{ caller() }}>{% endmacro %}{% call box('a') %}in{{ 1 }}{% endcall %}{% macro each(l) %}{% for x in l %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(y) each([1, 2]) %}[{{ y }}]{% endcall %}",
    "{% set body %}  a{{ 1 }}\n{% endset %}{{ body|trim }}{% set up | upper %}abc{% endset %}{{ up }}{% filter upper|replace('A', 'b') %}xa{{ 'y' }}{% endfilter %}{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
    "{% generation %}{% set z = 3 %}{{ z }}{% endgeneration %}{{ z is defined }}",
    "{% if 0 %}a{% elif 1 %}b{% else %}c{% endif %}{% if none %}{% elif '' %}{% else %}d{% endif %}{% if messages and tools is not none and tools | length > 0 %}t{% endif %}",
    "{{ {'a': {'b': 1}} }}{{ [[1]] }}{{'}}'}}{{ '%}' }}{% if '%}' == '%}' %}ok{% endif %}",
    "{{- bos_token }}{%- for message in messages %}{%- if message.role == 'system' %}{{- '[S]' + message.content.strip() }}{%- elif message['role'] == 'user' %}{{- '[INST] ' ~ message['content'] | trim ~ ' [/INST]' }}{%- else %}{{- ' ' + message.content.split('</think>')[-1].lstrip('\\n') + eos_token }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- 'A:' }}{%- endif %}",
    # The way Qwen2.5 lists tools.
    """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'Default.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n{\\"name\\": <function-name>}<|im_end|>\\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- tool_call.arguments | tojson }}
        {%- endfor %}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    # The way Qwen3 searches the messages for the last question.
    """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set reasoning_content = '' %}
    {%- if message.reasoning_content is string %}
        {%- set reasoning_content = message.reasoning_content %}
    {%- elif '</think>' in message.content %}
        {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if loop.index0 > ns.last_query_index or (not loop.last and reasoning_content) %}
        {{- message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>' }}
    {%- else %}
        {{- message.role + ' ' + message.content.lstrip('\\n') }}
    {%- endif %}
{%- endfor %}
{%- if enable_thinking is defined and enable_thinking is false %}
    {{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
""",
    # The way Llama-3.1 splits the system message and dates.
    """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code_interpreter') | join(", ") + "\\n\\n"}}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Cannot put tools in the first user message when there's no first user message!") }}
    {%- endif %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
""",
    # The way Gemma and Mistral check that roles alternate.
    """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}""",
    """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- endif %}
{%- endfor %}
""",
    # Tools in TypeScript, written by macros that call each other.
    """{%- macro type(spec, indent=0) -%}
{%- if spec.type == 'object' -%}
{
{%- for name, own in spec.properties.items() %}
{{ ' ' * (indent + 2) }}{{ name }}{{ '' if name in spec.get('required', []) else '?' }}: {{ type(own, indent + 2) }},
{%- endfor %}
{{ ' ' * indent }}}
{%- elif spec.type is iterable and spec.type is not string -%}
{{ spec.type | join(' | ') }}
{%- elif spec['items'] -%}
{{ type(spec['items']) }}[]
{%- else -%}
{{ spec.type }}
{%- endif -%}
{%- endmacro -%}
{% for tool in tools -%}
// {{ tool.function.description }}
type {{ tool.function.name }} = (_: {{ type(tool.function.parameters) }}) => any;
{% endfor %}""",
    "{% for m in messages %}{% set content = m.content if m.content is string else m.content[0].text %}{{ '\\n' + content if loop.index0 else content }}{% endfor %}{{ messages[-1]['role'] != 'assistant' and add_generation_prompt }}",
    "{% block x %}a{% endblock %}", "{% include 'x' %}", "{% extends 'x' %}", "{% unknown %}", "{% for %}{% endfor %}",
    "{% for x in [1] %}", "{% if 1 %}{% else %}{% elif 2 %}{% endif %}", "{{ 1", "{% if 1 %}{% endfor %}", "{% endif %}",
    "{# open", "{% raw %} open", "{% set %}", "{% set x.y = 1 %}", "{% set a, b = 1 %}", "{% macro f(x) %}{% endmacro %}{{ f(1, 2) }}",
]


def case(template):
    try:
        return {"template": template, "rendered": _compile_jinja_template(template).render(**VARIABLES)}
    except (TemplateError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return {"template": template, "rendered": None}


def split(text):
    """One expression per line. A backslash at the end continues it."""
    return [line.replace("\0", "\\\n") for line in text.strip().replace("\\\n", "\0").split("\n")]


def main():
    expressions, refused = split(EXPRESSIONS), split(REFUSED)
    cases = [case("{{ " + text + " }}") for text in expressions + refused] + [case(text) for text in TEMPLATES]
    wrong = [one for one in cases[: len(expressions)] if one["rendered"] is None]
    wrong += [one for one in cases[len(expressions) : len(expressions) + len(refused)] if one["rendered"] is not None]
    assert not wrong, wrong
    (FIXTURES / "prompts").mkdir(parents=True, exist_ok=True)
    write_lines(FIXTURES / "prompts" / "jinja.json", [{"variables": json.loads(json.dumps(VARIABLES))}] + cases)


if __name__ == "__main__":
    main()
