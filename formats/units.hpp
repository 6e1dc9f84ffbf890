// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace wherry::formats {

/// An amount: what std::chrono::duration is to time. Adds, subtracts and scales; never mixes with
/// another Tag and never converts implicitly.
template <typename Tag>
class Quantity {
public:
    constexpr Quantity() = default;
    constexpr explicit Quantity(std::uint64_t value) : value_{value} {}

    /// For the kernel's and the wire's edge only.
    [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }

    friend constexpr auto operator<=>(Quantity, Quantity) noexcept = default;
    friend constexpr Quantity operator+(Quantity a, Quantity b) noexcept {
        return Quantity{a.value_ + b.value_};
    }
    friend constexpr Quantity operator-(Quantity a, Quantity b) noexcept {
        return Quantity{a.value_ - b.value_};
    }
    friend constexpr Quantity operator*(Quantity a, std::uint64_t n) noexcept {
        return Quantity{a.value_ * n};
    }
    friend constexpr Quantity operator/(Quantity a, std::uint64_t n) noexcept {
        return Quantity{a.value_ / n};
    }
    friend constexpr std::uint64_t operator/(Quantity a, Quantity b) noexcept {
        return a.value_ / b.value_;
    }
    friend constexpr Quantity operator%(Quantity a, Quantity b) noexcept {
        return Quantity{a.value_ % b.value_};
    }
    constexpr Quantity& operator+=(Quantity other) noexcept {
        value_ += other.value_;
        return *this;
    }
    constexpr Quantity& operator-=(Quantity other) noexcept {
        value_ -= other.value_;
        return *this;
    }

private:
    std::uint64_t value_ = 0;
};

/// A place: what std::chrono::time_point is to time. Position + Distance is a Position,
/// Position - Position is a Distance, Position + Position does not compile.
template <typename Distance>
class Position {
public:
    constexpr Position() = default;
    constexpr explicit Position(std::uint64_t value) : value_{value} {}

    /// For the kernel's and the wire's edge only.
    [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }

    friend constexpr auto operator<=>(Position, Position) noexcept = default;
    friend constexpr Position operator+(Position at, Distance step) noexcept {
        return Position{at.value_ + step.value()};
    }
    friend constexpr Position operator-(Position at, Distance step) noexcept {
        return Position{at.value_ - step.value()};
    }
    friend constexpr Distance operator-(Position to, Position from) noexcept {
        return Distance{to.value_ - from.value_};
    }
    constexpr Position& operator+=(Distance step) noexcept {
        value_ += step.value();
        return *this;
    }

private:
    std::uint64_t value_ = 0;
};

using Bytes = Quantity<struct BytesTag>;
using PageCount = Quantity<struct PageCountTag>;
/// Guest physical address, and guest frame number (address / 4096).
using Gpa = Position<Bytes>;
using Gfn = Position<PageCount>;

/// A page is always 4 KiB of guest memory, whatever the host maps it with.
inline constexpr std::size_t page_size = 4096;
inline constexpr Bytes page_bytes{page_size};

inline constexpr Bytes operator""_KiB(unsigned long long n) {
    return Bytes{n << 10U};
}
inline constexpr Bytes operator""_MiB(unsigned long long n) {
    return Bytes{n << 20U};
}
inline constexpr Bytes operator""_GiB(unsigned long long n) {
    return Bytes{n << 30U};
}

constexpr Bytes bytes_of(PageCount pages) noexcept {
    return Bytes{pages.value() * page_size};
}
/// Whole pages in `bytes`, the last one counted even when it is not full.
constexpr PageCount pages_for(Bytes bytes) noexcept {
    return PageCount{bytes.value() / page_size + (bytes.value() % page_size != 0 ? 1U : 0U)};
}
constexpr Gpa gpa_of(Gfn frame) noexcept {
    return Gpa{frame.value() * page_size};
}
/// The frame that holds `address`.
constexpr Gfn gfn_of(Gpa address) noexcept {
    return Gfn{address.value() / page_size};
}

} // namespace wherry::formats
