// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

/// The few words of ACPI Machine Language that our tables need (ACPI 6.4, chapter 20 and 6.4).
/// Names and ids are our own constants: a malformed one is a bug and aborts.
namespace wherry::vmm::boot::aml {

/// Something that has a value: an integer, a package, a buffer.
struct Object {
    std::vector<std::byte> code;
};

/// Something that stands in a scope: a name, a device; or in a method, which does it.
struct Term {
    std::vector<std::byte> code;
};

/// One resource descriptor.
struct Resource {
    std::vector<std::byte> code;
};

Object integer(std::uint32_t value);
Object package(std::span<const Object> elements); ///< at most 255
/// No NUL in it.
Object string(std::string_view text);
/// "PNP0501" as the compressed number that _HID takes.
Object eisa_id(std::string_view id);
/// A buffer of resource descriptors with their end tag.
Object resource_template(std::span<const Resource> resources);

/// Ports [first, first + count), decoded with 16 bits.
Resource io_ports(std::uint16_t first, std::uint8_t count);
/// An edge-triggered, active-high, exclusive interrupt.
Resource edge_interrupt(std::uint32_t pin);

/// `segment` is four characters: "_HID".
Term name(std::string_view segment, const Object& value);
Term device(std::string_view segment, std::span<const Term> inside);
Term scope(std::string_view segment, std::span<const Term> inside);
/// Serialized; with up to 7 arguments.
Term method(std::string_view segment, std::uint8_t arguments, std::span<const Term> inside);
/// In a method: notifies of what is called `segment` where the method is, or further out.
Term notify(std::string_view segment, std::uint8_t value);

} // namespace wherry::vmm::boot::aml
