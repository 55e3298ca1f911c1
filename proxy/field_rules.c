/*
 * field_rules.c - see field_rules.h.
 */
#include "proxy/field_rules.h"

void field_rules_apply(const struct conf_fields *rules, bool https, struct arena *a,
                       struct fields *f)
{
    for (unsigned i = 0; i < rules->n; i++) {
        const struct conf_field *rule = &rules->v[i];
        if (rule->https_only && !https)
            continue;
        fields_remove(f, rule->name);
        if (!rule->remove)
            fields_add(a, f, rule->name, rule->value);
    }
}
