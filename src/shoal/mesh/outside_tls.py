"""TLS towards what is outside: only a certificate for the name that was asked for, by an authority that is believed."""

from __future__ import annotations

import ipaddress

from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from envoy.type.matcher.v3 import string_pb2

from shoal.mesh.messages import packed
from shoal.mesh.snapshot import Message
from shoal.model.app import External

H1, H2 = ("http/1.1",), ("h2",)
"""What is spoken inside, as it is offered in the handshake; nothing for bytes."""


def speaking_tls(external: External, alpn: tuple[str, ...]) -> Message:
    """A cluster's transport socket. `external.ca` is set."""
    name = external.sni or external.host
    is_address = _is_address(name)
    kind = common_pb2.SubjectAltNameMatcher
    # Exact: Envoy then also takes a certificate's `*.example.com` for a name below it, as every client does.
    shown = kind(san_type=kind.IP_ADDRESS if is_address else kind.DNS, matcher=string_pb2.StringMatcher(exact=name))
    context = tls_pb2.UpstreamTlsContext(
        sni="" if is_address else name,  # RFC 6066: no address
        common_tls_context=tls_pb2.CommonTlsContext(
            alpn_protocols=alpn,
            # As a client Envoy stops at 1.2 by default, and some servers begin at 1.3.
            tls_params=common_pb2.TlsParameters(
                tls_minimum_protocol_version=common_pb2.TlsParameters.TLSv1_2,
                tls_maximum_protocol_version=common_pb2.TlsParameters.TLSv1_3,
            ),
            validation_context=common_pb2.CertificateValidationContext(
                trusted_ca=base_pb2.DataSource(filename=external.ca), match_typed_subject_alt_names=[shown]
            ),
        ),
    )
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
