// SPDX-License-Identifier: Apache-2.0
#include "vmm/boot/aml.hpp"

#include "formats/error.hpp"
#include "vmm/little_endian.hpp"

#include <algorithm>

namespace wherry::vmm::boot::aml {
namespace {

using Code = std::vector<std::byte>;

// Opcodes, ACPI 6.4 table 20.9.
constexpr std::uint8_t zero_op = 0x00, one_op = 0x01, name_op = 0x08;
constexpr std::uint8_t byte_prefix = 0x0a, word_prefix = 0x0b, double_word_prefix = 0x0c;
constexpr std::uint8_t string_prefix = 0x0d, scope_op = 0x10, buffer_op = 0x11, package_op = 0x12;
constexpr std::uint8_t method_op = 0x14, notify_op = 0x86;
constexpr std::uint8_t extended_prefix = 0x5b, device_op = 0x82;

void append(Code& to, std::uint8_t byte) {
    to.push_back(std::byte{byte});
}
void append(Code& to, std::span<const std::byte> bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
}

void append_segment(Code& to, std::string_view segment) {
    formats::invariant(segment.size() == 4, "an AML name segment has four characters");
    for (const char character : segment) {
        append(to, static_cast<std::uint8_t>(character));
    }
}

/// PkgLength (20.2.4): counts itself; the first byte says how many follow and holds the low 4
/// bits, or all 6 where none follow.
void append_with_length(Code& to, std::span<const std::byte> content) {
    constexpr std::size_t one_byte_limit = 63;
    std::size_t following = 0;
    if (content.size() + 1 > one_byte_limit) {
        following = content.size() + 2 < (1U << 12U) ? 1 : 2;
    }
    const std::size_t length = content.size() + 1 + following;
    formats::invariant(length < (1U << 20U), "an AML package has less than 1 MiB");
    if (following == 0) {
        append(to, static_cast<std::uint8_t>(length));
    } else {
        append(to, static_cast<std::uint8_t>((following << 6U) | (length & 0xfU)));
        for (std::size_t i = 0; i < following; ++i) {
            append(to, static_cast<std::uint8_t>(length >> (4 + 8 * i)));
        }
    }
    append(to, content);
}

void append_terms(Code& to, std::span<const Term> terms) {
    for (const Term& term : terms) {
        append(to, term.code);
    }
}

Code inside_of(std::string_view segment, std::span<const Term> terms) {
    Code content;
    append_segment(content, segment);
    append_terms(content, terms);
    return content;
}

std::uint32_t hexadecimal(char digit) {
    const bool is_decimal = digit >= '0' && digit <= '9';
    formats::invariant(
        is_decimal || (digit >= 'A' && digit <= 'F'), "an EISA id ends in four hexadecimal digits");
    return static_cast<std::uint32_t>(is_decimal ? digit - '0' : digit - 'A' + 10);
}

} // namespace

Object integer(std::uint32_t value) {
    Object object;
    if (value <= 1) {
        append(object.code, value == 0 ? zero_op : one_op);
    } else if (value <= 0xff) {
        append(object.code, byte_prefix);
        append_le(object.code, static_cast<std::uint8_t>(value));
    } else if (value <= 0xffff) {
        append(object.code, word_prefix);
        append_le(object.code, static_cast<std::uint16_t>(value));
    } else {
        append(object.code, double_word_prefix);
        append_le(object.code, value);
    }
    return object;
}

Object package(std::span<const Object> elements) {
    formats::invariant(elements.size() <= 255, "an AML package has at most 255 elements");
    Code content;
    append(content, static_cast<std::uint8_t>(elements.size()));
    for (const Object& element : elements) {
        append(content, element.code);
    }
    Object object;
    append(object.code, package_op);
    append_with_length(object.code, content);
    return object;
}

Object string(std::string_view text) {
    formats::invariant(!text.contains('\0'), "an AML string ends at its first NUL");
    Object object;
    append(object.code, string_prefix);
    append(object.code, std::as_bytes(std::span{text}));
    append(object.code, 0x00);
    return object;
}

Object eisa_id(std::string_view id) {
    formats::invariant(id.size() == 7, "an EISA id is three letters and four digits");
    std::uint32_t packed = 0;
    for (const char letter : id.substr(0, 3)) {
        formats::invariant(letter >= 'A' && letter <= 'Z', "an EISA id starts with three letters");
        packed = (packed << 5U) | static_cast<std::uint32_t>(letter - 'A' + 1);
    }
    for (const char digit : id.substr(3)) {
        packed = (packed << 4U) | hexadecimal(digit);
    }
    // The number is stored most significant byte first (ACPI 6.4, 19.3.4).
    Object object;
    append(object.code, double_word_prefix);
    for (const unsigned shift : {24U, 16U, 8U, 0U}) {
        append(object.code, static_cast<std::uint8_t>(packed >> shift));
    }
    return object;
}

Object resource_template(std::span<const Resource> resources) {
    Code descriptors;
    for (const Resource& resource : resources) {
        append(descriptors, resource.code);
    }
    append(descriptors, 0x79); // end tag; checksum 0 means "not checked" (6.4.2.9)
    append(descriptors, 0x00);
    Code content = integer(static_cast<std::uint32_t>(descriptors.size())).code;
    append(content, descriptors);
    Object object;
    append(object.code, buffer_op);
    append_with_length(object.code, content);
    return object;
}

Resource io_ports(std::uint16_t first, std::uint8_t count) {
    Resource resource; // small descriptor 8, 7 bytes (6.4.2.5)
    append(resource.code, 0x47);
    append(resource.code, 0x01); // decodes 16 bits
    append_le(resource.code, first);
    append_le(resource.code, first);
    append(resource.code, 0x01); // alignment
    append(resource.code, count);
    return resource;
}

Resource edge_interrupt(std::uint32_t pin) {
    Resource resource; // extended interrupt descriptor (6.4.3.6)
    append(resource.code, 0x89);
    append_le(resource.code, std::uint16_t{6});
    append(resource.code, 0x03); // consumer, edge, active high, exclusive
    append(resource.code, 0x01);
    append_le(resource.code, pin);
    return resource;
}

Term name(std::string_view segment, const Object& value) {
    Term term;
    append(term.code, name_op);
    append_segment(term.code, segment);
    append(term.code, value.code);
    return term;
}

Term device(std::string_view segment, std::span<const Term> inside) {
    Term term;
    append(term.code, extended_prefix);
    append(term.code, device_op);
    append_with_length(term.code, inside_of(segment, inside));
    return term;
}

Term scope(std::string_view segment, std::span<const Term> inside) {
    Term term;
    append(term.code, scope_op);
    append_with_length(term.code, inside_of(segment, inside));
    return term;
}

Term method(std::string_view segment, std::uint8_t arguments, std::span<const Term> inside) {
    formats::invariant(arguments <= 7, "an AML method has at most 7 arguments");
    constexpr std::uint8_t serialized = 0x08;
    Code content;
    append_segment(content, segment);
    append(content, static_cast<std::uint8_t>(arguments | serialized));
    append_terms(content, inside);
    Term term;
    append(term.code, method_op);
    append_with_length(term.code, content);
    return term;
}

Term notify(std::string_view segment, std::uint8_t value) {
    Term term;
    append(term.code, notify_op);
    append_segment(term.code, segment);
    append(term.code, integer(value).code);
    return term;
}

} // namespace wherry::vmm::boot::aml
