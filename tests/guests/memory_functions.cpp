// SPDX-License-Identifier: Apache-2.0
// The functions that a compiler may call without being asked to.
#include <cstddef>

extern "C" {

void* memset(void* to, int value, std::size_t count) noexcept {
    void* result = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
    return result;
}

void* memcpy(void* to, const void* from, std::size_t count) noexcept {
    void* result = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    return result;
}

int memcmp(const void* left, const void* right, std::size_t count) noexcept {
    const auto* a = static_cast<const unsigned char*>(left);
    const auto* b = static_cast<const unsigned char*>(right);
    for (; count != 0; --count, ++a, ++b) {
        if (*a != *b) {
            return *a < *b ? -1 : 1;
        }
    }
    return 0;
}

void* memchr(const void* text, int value, std::size_t count) noexcept {
    const auto* at = static_cast<const unsigned char*>(text);
    for (; count != 0; --count, ++at) {
        if (*at == static_cast<unsigned char>(value)) {
            return const_cast<unsigned char*>(at);
        }
    }
    return nullptr;
}

std::size_t strlen(const char* text) noexcept {
    std::size_t size = 0;
    while (text[size] != '\0') {
        asm volatile("" : : : "memory"); // keeps the loop from becoming a call of strlen
        ++size;
    }
    return size;
}
}
