"""The first teas on the shelf."""

from django.db import migrations

TEAS = [
    ("Sencha", "Green, from Uji, first flush.", 1250),
    ("Hojicha", "Roasted, low in caffeine.", 890),
    ("Assam", "Black and malty, takes milk.", 790),
]


def stock(apps, schema_editor):
    Product = apps.get_model("catalog", "Product")
    for name, description, price_cents in TEAS:
        Product.objects.get_or_create(name=name, defaults={"description": description, "price_cents": price_cents})


def unstock(apps, schema_editor):
    apps.get_model("catalog", "Product").objects.filter(name__in=[name for name, _, _ in TEAS]).delete()


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]
    operations = [migrations.RunPython(stock, unstock)]
