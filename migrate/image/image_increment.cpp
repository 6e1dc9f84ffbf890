// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_increment.hpp"

#include "migrate/plan.hpp"

#include <fmt/format.h>

namespace wherry::migrate {

using formats::fail;
using formats::Result;

Result<ImageIncrement>
ImageIncrement::on(ImageChain& base, const vmm::GuestMemory& memory, ImageOptions& options) {
    if (auto fits = check_layout(base.description().plan, memory); !fits) {
        return fail(std::move(fits).error().during(base.name()));
    }
    if (base.description().extent != ImageExtent::whole) {
        return fail(
            formats::ErrorCode::invalid_argument,
            fmt::format(
                "{} is {}: only a whole guest is a base",
                base.name(),
                name_of(base.description().extent)));
    }
    auto named = base.as_base(options);
    if (!named) {
        return fail(std::move(named).error());
    }
    auto difference = ImageDifference::from(base);
    if (!difference) {
        return fail(std::move(difference).error());
    }
    const auto map = base.page_map();
    if (!map) {
        return fail(map.error());
    }
    dirtylog::DirtySet pages{memory};
    for (const auto& entry : (*map)->entries()) {
        pages.mark(entry.pages);
    }
    options.base = *std::move(named);
    return ImageIncrement{*std::move(difference), std::move(pages)};
}

} // namespace wherry::migrate
