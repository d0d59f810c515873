"""Builds protobuf message classes from a short declaration, for formats too small to generate code for."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "bytes": _Field.TYPE_BYTES,
    "string": _Field.TYPE_STRING,
}


def message_classes(package: str, declarations: dict[str, str]) -> dict[str, Any]:
    """The proto3 classes of `declarations`: message name to fields, each `number:name:type`, `*` for repeated."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, declared in declarations.items():
        message = file.message_type.add(name=name)
        for field in declared.split():
            _declare(message.field.add(), field, package)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in declarations
    }


def _declare(field: descriptor_pb2.FieldDescriptorProto, declared: str, package: str) -> None:
    number, field.name, kind = declared.split(":")
    field.number = int(number)
    field.label = _Field.LABEL_REPEATED if kind.endswith("*") else _Field.LABEL_OPTIONAL
    kind = kind.removesuffix("*")
    if kind in SCALARS:
        field.type = SCALARS[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{package}.{kind}"
