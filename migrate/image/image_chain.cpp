// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_chain.hpp"

#include "migrate/image/section_digest.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::PageMapEntry;
using formats::PageRange;
using formats::Result;
using formats::Status;

namespace {

std::uint32_t depth_of(const ImageReader& image) {
    const auto& base = image.outline().header.base;
    return base ? base->depth : 0;
}

bool has_weak_digests(const ImageReader& image) {
    return digest_kind_of(image.outline().header) != DigestKind::sha256;
}

/// Whoever signs an image vouches for what it is based on, too.
Status check_digests_for_signing(std::span<const ImageReader> bases) {
    const auto weak = std::ranges::find_if(bases, has_weak_digests);
    if (weak == bases.end()) {
        return {};
    }
    return fail(
        ErrorCode::invalid_argument,
        weak->name() +
            " is not signed, and its digests are not such as a signature vouches for: what is "
            "based on it cannot be signed (write it anew: wherry image convert --sign)");
}

/// Whether `base` is what `image` is based on.
Status check_base(const ImageReader& base, const ImageReader& image) {
    const formats::ImageBase& meant = *image.outline().header.base;
    if (base.root() != meant.root || base.id() != meant.id) {
        return fail(
            ErrorCode::authentication,
            fmt::format(
                "it is not what {} is based on: its root is {}, and not {} (rolled back, written "
                "anew, or another image)",
                image.name(),
                short_name_of(base.root()),
                short_name_of(meant.root)));
    }
    if (base.description().extent != ImageExtent::whole ||
        base.description().plan.regions != image.description().plan.regions ||
        depth_of(base) + 1 != meant.depth) {
        return fail(ErrorCode::corrupted, "it cannot be what " + image.name() + " is based on");
    }
    return {};
}

Result<ImageReader>
open_base(const ImageReader& image, const std::filesystem::path& path, const ImageAccess& access) {
    auto base = ImageReader::open(path, access);
    if (!base) {
        return fail(std::move(base).error().during("the base of " + image.name()));
    }
    auto good = check_base(*base, image);
    return good ? std::move(base) : fail(std::move(good).error().during(base->name()));
}

} // namespace

ImageChain::ImageChain(std::vector<ImageReader> images, std::shared_ptr<const ImageSecret> key)
    : key_{std::move(key)},
      images_{std::move(images)} {
    std::uint32_t next = 0;
    for (const ImageReader& image : images_) {
        first_numbers_.push_back(next);
        next += static_cast<std::uint32_t>(image.sections().size());
    }
}

Result<ImageChain> ImageChain::open(
    const std::filesystem::path& path,
    const ImageAccess& access,
    const std::filesystem::path& bases) {
    ImageAccess with = access;
    if (with.place == ChainPlace::alone) {
        with.place = ChainPlace::youngest;
    }
    auto image = ImageReader::open(path, with);
    if (!image) {
        return fail(std::move(image).error());
    }
    with.place = ChainPlace::base;
    with.trusted = nullptr;
    std::vector<ImageReader> images;
    images.push_back(*std::move(image));
    auto directory = bases.empty() ? path.parent_path() : bases;
    // As many as the first one's depth says, which is limited: each must be one less deep.
    while (const auto& base = images.back().outline().header.base) {
        auto opened = open_base(images.back(), directory / base->file, with);
        if (!opened) {
            return fail(std::move(opened).error());
        }
        images.push_back(*std::move(opened));
    }
    if (images.front().outline().is_signed()) {
        auto good = check_digests_for_signing(std::span{images}.subspan(1));
        if (!good) {
            return fail(
                ErrorCode::authentication, images.front().name() + ": " + good.error().text());
        }
    }
    std::ranges::reverse(images);
    return ImageChain{std::move(images), access.key};
}

Status
ImageChain::check_options(std::span<const ImageReader> bases, const ImageOptions& child) const {
    if (child.signing_key) {
        if (auto good = check_digests_for_signing(bases); !good) {
            return good;
        }
    }
    const auto encrypted = std::ranges::find_if(
        bases, [](const ImageReader& base) { return base.outline().is_encrypted(); });
    if (encrypted == bases.end() || (child.key && child.key->bytes() == key_->bytes())) {
        return {};
    }
    return fail(
        ErrorCode::invalid_argument,
        encrypted->name() +
            " is encrypted: what is based on it has to be, with the same key (--encrypt)");
}

Result<formats::ImageBase> ImageChain::as_base(const ImageOptions& child) const {
    if (auto good = check_options(images_, child); !good) {
        return fail(std::move(good).error());
    }
    if (depth_of(image()) == formats::image_depth_limit) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format(
                "{} is based on {} others, which is the limit; flatten it (wherry image flatten)",
                name(),
                formats::image_depth_limit));
    }
    return formats::ImageBase{
        .root = image().root(),
        .id = image().id(),
        .file = std::filesystem::path{name()}.filename().string(),
        .depth = depth_of(image()) + 1};
}

Result<std::optional<formats::ImageBase>>
ImageChain::base_for(const ImageOptions& converted) const {
    auto good = check_options(std::span{images_}.first(images_.size() - 1), converted);
    return good ? Result<std::optional<formats::ImageBase>>{image().outline().header.base}
                : fail(std::move(good).error());
}

std::size_t ImageChain::section_count() const noexcept {
    return first_numbers_.back() + image().sections().size();
}

Result<const PageMap*> ImageChain::page_map() {
    if (images_.size() == 1) {
        return images_.front().page_map();
    }
    if (!page_map_) {
        PageMapBuilder builder{image().description().plan.regions};
        for (std::size_t at = 0; at < images_.size(); ++at) {
            const auto map = images_[at].page_map();
            if (!map) {
                return fail(map.error());
            }
            for (const PageMapEntry& entry : (*map)->entries()) {
                builder.add(entry.pages, first_numbers_[at] + entry.chunk);
            }
        }
        page_map_ = std::make_unique<PageMap>(builder.build());
    }
    return page_map_.get();
}

Status ImageChain::read_chunk(std::uint32_t number, const TakePages& take) const {
    if (images_.size() == 1) {
        return images_.front().read_chunk(number, take);
    }
    formats::invariant(page_map_ != nullptr, "the page map is asked for before a chunk");
    const auto behind = std::ranges::upper_bound(first_numbers_, number);
    const auto at = static_cast<std::size_t>(behind - first_numbers_.begin()) - 1;
    return images_[at].read_chunk(
        number - first_numbers_[at], [&](PageRange pages, std::span<const std::byte> bytes) {
            return take_counting(pages, bytes, only_chunk(number), *page_map_, take);
        });
}

Result<PageMapParts*> ImageChain::page_map_parts() {
    if (!parts_ && images_.size() == 1) {
        auto parts = images_.front().page_map_parts();
        if (!parts) {
            return fail(std::move(parts).error());
        }
        parts_ = *std::move(parts);
        has_parts_ = parts_ != nullptr;
    }
    if (!parts_) {
        const auto map = page_map();
        if (!map) {
            return fail(map.error());
        }
        parts_ = std::make_unique<PageMapParts>(**map);
    }
    return parts_.get();
}

Status ImageChain::read_chunk_by_parts(std::uint32_t number, const TakePages& take) {
    return has_parts_ ? images_.front().read_chunk(number, *parts_, take)
                      : read_chunk(number, take);
}

Status ImageChain::for_each_run(const TakePages& take, unsigned threads) {
    if (images_.size() == 1) {
        return images_.front().for_each_run(take, threads);
    }
    if (const auto map = page_map(); !map) {
        return fail(map.error());
    }
    for (std::size_t at = 0; at < images_.size(); ++at) {
        const auto first = first_numbers_[at];
        const ChunkRange its{
            .first = first,
            .end = first + static_cast<std::uint32_t>(images_[at].sections().size())};
        const auto counts_here = [&](PageRange pages, std::span<const std::byte> bytes) {
            return take_counting(pages, bytes, its, *page_map_, take);
        };
        if (auto taken = images_[at].for_each_run(counts_here, threads); !taken) {
            return taken;
        }
    }
    return {};
}

Status ImageChain::verify(unsigned threads) {
    for (ImageReader& each : images_) {
        if (auto good = each.verify(threads); !good) {
            return good;
        }
    }
    return {};
}

} // namespace wherry::migrate
