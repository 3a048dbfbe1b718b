"""The marks of all formats, and which of them begin a call."""

from __future__ import annotations

import re

from . import glm

# Begin mark → end mark of what holds JSON, or calls as Python has them, or elements.
TAGS = {
    "<toolcall>": "</toolcall>",
    "<TOOLCALL>": "</TOOLCALL>",
    "<function_call>": "</function_call>",
    "<functioncall>": "</functioncall>",
    "<function_calls>": "</function_calls>",
    "<tool_calls>": "</tool_calls>",
    "<tool_use>": "</tool_use>",
    "<tools>": "</tools>",
    "<longcat_tool_call>": "</longcat_tool_call>",
    "<|content_invoke_tool_json|>": "<|end_message|>",
    "<|tool_call|>": "<|/tool_call|>",
    "<|tool_calls|>": "<|/tool_calls|>",
    "<|tool_call>": "<tool_call|>",
    "<start_function_call>": "<end_function_call>",
    "<|tool_call_start|>": "<|tool_call_end|>",
    "<|python_start|>": "<|python_end|>",
    "<|python_tag|>": "<|eom_id|>",
    "<|action_start|>": "<|action_end|>",
    "<|function_call|>": "<|/function_call|>",
    "<|START_ACTION|>": "<|END_ACTION|>",
    "<|tools_prefix|>": "<|tools_suffix|>",
    "[unused11]": "[unused12]",
    "[TOOL_CALLS]": "",
    "[TOOL_REQUEST]": "[END_TOOL_REQUEST]",
    "function call<|role_sep|>": "",
    "functools[": "",
}
_CLOSERS = [closer for closer in TAGS.values() if closer and closer != "<|end_message|>"]
_KIMI, _DEEPSEEK = (
    r"<\|tool_call_begin\|>",
    (
        r"<[｜|]tool[▁_ ]call[▁_ ]begin[｜|]>"
        r"|<[｜|]tool[▁_ ]calls[▁_ ]begin[｜|]>(?=[^<>]{1,100}<[｜|]tool[▁_ ]sep[｜|]>)"
    ),
)
_CALLS = r"(?:tool_?calls?|function_?calls?)"
_WRAPPERS = (
    r"<[｜|]tool[▁_ ]calls[▁_ ]begin[｜|]>|<\|tool_calls?_section_begin\|>|<\|open\|>tools<\|sep\|>"
    rf"|<[｜|][A-Z]{{2,10}}[｜|]{_CALLS}>|<(?!ifm)[a-z]{{2,20}}:{_CALLS}>|<tool_calls:[\w-]{{1,40}}>|<ifm\|tool_calls>"
    rf"|\]<\]minimax\[>\[\s{{0,20}}<tool_call>"
)
_ENDS = (
    r"<[｜|]tool[▁_ ]calls?[▁_ ]end[｜|]>|<\|tool_calls?_section_end\|>|<\|close\|>tools<\|sep\|>"
    rf"|</[｜|][A-Z]{{2,10}}[｜|]{_CALLS}>|</[a-z]{{2,20}}:{_CALLS}>|</tool_calls?:[\w-]{{1,40}}>|</ifm\|tool_calls?>"
    rf"|\]<\]minimax\[>\[\s{{0,20}}</tool_call>"
)
_RESULTS = (
    r"</?tool_response>|<\|tool_response>?\|?>|<function_results?>|<tool_results?>|\[TOOL_RESULTS\]|<\|observation\|>"
    r"|<[｜|]tool[▁_ ]outputs?[▁_ ]begin[｜|]>|✿RESULT✿"
)
_TURN_ENDS = (
    r"<\|im_end\|>|<\|eot_id\|>|<\|eom_id\|>|<\|eot\|>|<\|endoftext\|>|<\|end_of_text\|>|<end_of_turn>|<turn\|>|<eos>"
    r"|<\|(?:open|close)\|>(?:response|message)<\|sep\|>|<\|message_model\|>(?:[\w.-]{1,100}(?=<\|content_invoke))?"
    r"|<\|(?:content_text|end_message|message_sep|role_sep)\|>"
    r"|<[｜|]end[▁_ ]of[▁_ ]sentence[｜|]>|<\|END_OF_TURN_TOKEN\|>|<\|END_RESPONSE\|>|<\|START_RESPONSE\|>"
    r"|<\|(?:START|END)_TEXT\|>|</s>"
)
# The head of a turn: of the model's own it is dropped, of another's with all that follows.
_TURN = (
    r"(?:<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>)\s{0,9}"
    r"(?:(?P<own>assistant|model)|user|system|tool|ipython)(?:<\|end_header_id\|>)?|(?P<all>>>>all\n)"
)
_OTHER_ENDS = r"</(?:tool_calls?|toolcall|TOOLCALL|function_calls?|functioncall|function|invoke|parameter|parameters)>"


def _any(literals: list[str]) -> str:
    return "|".join(re.escape(literal) for literal in sorted(literals, key=len, reverse=True))


# The look ahead is for speed: without it every `<` would be tried with a hundred alternatives.
MARK = re.compile(
    r"(?=<(?:/?[|｜]{0,2}/?[a-zA-Z])|\[[TuE]|\]<\]m|functools\[|function call<|>>>|✿)(?:"
    r"(?P<action><(?:action|tool_use|tool_call|function_call)>(?=\s{0,100}<(?:tool_name|tool|name)>))|"
    rf"(?P<kimi>{_KIMI})|(?P<deepseek>{_DEEPSEEK})|(?P<wrapper>{_WRAPPERS})|(?P<end>{_ENDS}|{_any(_CLOSERS)}|{_OTHER_ENDS})"
    rf"|(?P<tag>{glm.TAG.pattern}|{_any(list(TAGS))})|(?P<functionary>>>>(?!all\n)[\w.-]{{1,100}}\n)|(?P<qwen>✿FUNCTION✿:)|(?P<tool><tool:)"
    rf"|(?P<xtml><\|open\|>call(?=[\s<]))|(?P<minimax>\]<\]minimax\[>\[(?=\s{{0,20}}<invoke))|(?P<result>{_RESULTS})|(?P<turn_end>{_TURN_ENDS})|(?P<turn>{_TURN})"
    r"|(?P<element><[｜|]{0,2}(?:[A-Za-z]{1,20}[｜|:]{1,2})?(?:function|invoke)(?=[\s=])))"
)

# Groups of MARK that begin a call.
OPENERS = ("functionary", "qwen", "kimi", "deepseek", "tag", "action", "element", "tool", "xtml", "minimax")
# Beginnings of marks that no text has unless it means them.
SPECIAL = ("<|", "<｜", "[TOOL", "functools", "function call", "✿", "[unused", "<start_function")
SPECIAL_ENDS = ("<|", "<｜", "<tool_call|>", "<end_function_call>", "[unused", "[END_TOOL")  # the same of end marks
