"""A tea can be out of stock."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0002_first_products")]
    operations = [
        migrations.AddField(
            model_name="product", name="is_available", field=models.BooleanField(default=True)
        ),
    ]
