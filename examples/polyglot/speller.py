"""speller: a number in words, by gRPC, in package `polyglot`.

    service Speller { rpc Spell(google.protobuf.Int32Value) returns (google.protobuf.StringValue); }

Its messages are among those that protobuf brings, so that nothing needs to be generated.
"""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def spell(request: Int32Value, context: grpc.ServicerContext) -> StringValue:
    number = request.value
    if not 0 <= number < 100:
        context.abort(grpc.StatusCode.OUT_OF_RANGE, "only 0 to 99")
    if number < 20:
        return StringValue(value=ONES[number])
    tens, ones = TENS[number // 10 - 2], number % 10
    return StringValue(value=f"{tens}-{ONES[ones]}" if ones else tens)


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(8))
    method = grpc.unary_unary_rpc_method_handler(
        spell, request_deserializer=Int32Value.FromString, response_serializer=StringValue.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("polyglot.Speller", {"Spell": method}),))
    server.add_insecure_port(f"127.0.0.1:{os.environ.get('PORT', '50051')}")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=5))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
