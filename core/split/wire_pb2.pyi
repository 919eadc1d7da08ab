from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NONE: _ClassVar[DType]
    UINT8: _ClassVar[DType]
    INT8: _ClassVar[DType]
    UINT16: _ClassVar[DType]
    INT16: _ClassVar[DType]
    UINT32: _ClassVar[DType]
    INT32: _ClassVar[DType]
    UINT64: _ClassVar[DType]
    INT64: _ClassVar[DType]
    FLOAT16: _ClassVar[DType]
    FLOAT32: _ClassVar[DType]
    FLOAT64: _ClassVar[DType]
NONE: DType
UINT8: DType
INT8: DType
UINT16: DType
INT16: DType
UINT32: DType
INT32: DType
UINT64: DType
INT64: DType
FLOAT16: DType
FLOAT32: DType
FLOAT64: DType

class Message(_message.Message):
    __slots__ = ("hello", "welcome", "chunk", "ack", "ping", "pong", "bye")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    BYE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    welcome: Welcome
    chunk: Chunk
    ack: Ack
    ping: int
    pong: int
    bye: bool
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., ping: _Optional[int] = ..., pong: _Optional[int] = ..., bye: _Optional[bool] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("version", "digest", "party", "session", "known", "snapshots", "acknowledged", "limits")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    version: int
    digest: str
    party: str
    session: bytes
    known: bool
    snapshots: _containers.RepeatedScalarFieldContainer[int]
    acknowledged: int
    limits: Limits
    def __init__(self, version: _Optional[int] = ..., digest: _Optional[str] = ..., party: _Optional[str] = ..., session: _Optional[bytes] = ..., known: _Optional[bool] = ..., snapshots: _Optional[_Iterable[int]] = ..., acknowledged: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("start", "acknowledged", "limits")
    START_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    start: int
    acknowledged: int
    limits: Limits
    def __init__(self, start: _Optional[int] = ..., acknowledged: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("window", "window_bytes", "frame_bytes")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    WINDOW_BYTES_FIELD_NUMBER: _ClassVar[int]
    FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    window: int
    window_bytes: int
    frame_bytes: int
    def __init__(self, window: _Optional[int] = ..., window_bytes: _Optional[int] = ..., frame_bytes: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("acknowledged", "dispersions")
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    DISPERSIONS_FIELD_NUMBER: _ClassVar[int]
    acknowledged: int
    dispersions: _containers.RepeatedCompositeFieldContainer[Dispersion]
    def __init__(self, acknowledged: _Optional[int] = ..., dispersions: _Optional[_Iterable[_Union[Dispersion, _Mapping]]] = ...) -> None: ...

class Dispersion(_message.Message):
    __slots__ = ("bytes", "seconds")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    seconds: float
    def __init__(self, bytes: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("sequence", "offset", "head")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    offset: int
    head: Head
    def __init__(self, sequence: _Optional[int] = ..., offset: _Optional[int] = ..., head: _Optional[_Union[Head, _Mapping]] = ...) -> None: ...

class Head(_message.Message):
    __slots__ = ("kind", "step", "arrays", "facts")
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    step: int
    arrays: _containers.RepeatedCompositeFieldContainer[Array]
    facts: str
    def __init__(self, kind: _Optional[str] = ..., step: _Optional[int] = ..., arrays: _Optional[_Iterable[_Union[Array, _Mapping]]] = ..., facts: _Optional[str] = ...) -> None: ...

class Array(_message.Message):
    __slots__ = ("name", "dtype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...
